import { describe, expect, it } from "vitest";
import { problemsOf } from "./problems-of.ts";

const head = "issuer: https://auth.example.com\npolicy: {allow: {or: [{accept: true}]}}\n";
const signIn = "sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\n";
const routes = "routes:\n  - {id: tickets, from: https://h.example.com, to: http://x, mcp: {}}\n";

/** Problems of a file with this at its top level, where line 3 begins. */
const withTop = (text: string) => problemsOf(`${head}${text}\n${signIn}${routes}`);

describe("F1.5 what could only fail, or do nothing, while serving, is refused", () => {
  it.each([
    "*.svc.cluster.local",
    "https://keycloak.internal",
    "keycloak.internal/realms",
    "10.0.0.0/33",
    "box:70000",
    " ",
  ])("a private host that is none: %j", (host) => {
    const hosts = ["keycloak.internal:8443", "Box", "[::1]:9000", "10.1.0.0/16", "10.2.0.7"];
    expect(withTop(`upstream_oauth: {allowed_private_hosts: ${JSON.stringify(hosts)}}`)).toEqual([]);
    expect(withTop(`upstream_oauth: {allowed_private_hosts: [box, ${JSON.stringify(host)}]}`)).toEqual([
      `3:47 error upstream_oauth.allowed_private_hosts[1]: ${JSON.stringify(host)} is not a host, host:port, address or CIDR block -> write each host by its name, without scheme, path or wildcard, or the CIDR block of its addresses`,
    ]);
  });
});
