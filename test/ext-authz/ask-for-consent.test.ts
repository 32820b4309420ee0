import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { consentHeader } from "../../src/config/header-names.ts";
import { scraped } from "../support/scraped.ts";
import { type Asked, startChecks } from "./start-checks.ts";

const oauth =
  "upstream_oauth2: {client_id: c, client_secret: s, endpoint: {auth_url: https://as.test/a, token_url: https://as.test/t}}";
const yaml = `
issuer: https://auth.test
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: root, from: https://mcp.test, to: http://127.0.0.1:1/mcp, mcp: {server: {${oauth}}}}
  - {id: never, from: https://never.test, to: http://127.0.0.1:2/mcp, mcp: {server: {consent: challenge, ${oauth}}}}
`;
let checks: Awaited<ReturnType<typeof startChecks>>;
beforeAll(async () => {
  checks = await startChecks(yaml);
});
afterAll(() => checks.close());

const reselecting = { metadata: { [consentHeader]: "call" }, context: { route: "root", consent: "call" } };
const in2026 = { "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call" };

describe("a check without the upstream's consent", () => {
  async function ask({ headers = in2026, ...more }: Asked = {}, claims = {}) {
    const authorization = `Bearer ${await checks.token(claims)}`;
    return checks.ask({ ...reselecting, ...more, headers: { authorization, cookie: "a=b", ...headers } });
  }

  it("marks the call, so that Envoy sends it on without the external token and cookies", async () => {
    const answer = await ask();
    expect(answer.status).toBe(0);
    expect(answer.removed).toEqual(["authorization", "cookie"]);
    expect(Object.keys(answer.set)).toEqual([consentHeader]);
    expect(answer.responseHeaders["access-control-allow-origin"]).toBe("*");
    expect(answer.metadata).toEqual({});
    expect(checks.metadataProofs.openHeader("consent", answer.set[consentHeader] ?? "")).toMatchObject({
      route: "root",
      user: "idp/alice",
      client: "client-1",
      reason: "consent_needed",
      path: "/",
      protocol: "input_required",
    });
  });

  it("only an Envoy whose listener selects the route again gets a marked call", async () => {
    expect((await ask({ metadata: {} })).status).toBe(401);
    expect((await ask({ context: { route: "root" } })).status).toBe(401);
  });

  it.each<[string, Asked]>([
    ["a GET", { method: "GET" }],
    ["no revision", { headers: {} }],
    [
      "a revision before URL mode elicitation",
      { headers: { "mcp-protocol-version": "2025-06-18", "mcp-session-id": "s" } },
    ],
    ["2025-11-25 without a session", { headers: { "mcp-protocol-version": "2025-11-25" } }],
    ["a method whose result cannot ask", { headers: { ...in2026, "mcp-method": "tools/list" } }],
    ["a route that never asks", { url: "https://never.test/", context: { route: "never", consent: "call" } }],
  ])("challenges %s", async (_name, asked) => {
    const aud = asked.url ? "https://never.test" : "https://mcp.test";
    const answer = await ask(asked, { aud });
    expect([answer.status, answer.set]).toEqual([401, {}]);
    expect(answer.headers["www-authenticate"]).toContain("Bearer ");
  });

  it("asks a session of 2025-11-25 by an error", async () => {
    const answer = await ask({ headers: { "mcp-protocol-version": "2025-11-25", "mcp-session-id": "s" } });
    const call = checks.metadataProofs.openHeader("consent", answer.set[consentHeader] ?? "");
    expect(call).toMatchObject({ protocol: "error" });
  });

  it("a service account has nobody to ask", async () => {
    expect((await ask({}, { sub: "service-account/ci" })).status).toBe(403);
  });

  it("a call that comes with the route of marked calls already selected is denied", async () => {
    const answer = await ask({ context: { route: "consent required" } });
    expect([answer.status, JSON.parse(answer.body).error]).toEqual([503, "route_mismatch"]);
  });

  it("is counted once, where it is answered", async () => {
    await ask();
    const counted = Object.keys(await scraped(checks.metrics, "checks_total"));
    expect(counted.filter((labels) => labels.includes('"ask"'))).toEqual([]);
  });
});
