import { request } from "node:http";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { listen } from "../../dev/demo/listen.ts";
import { consentHeader } from "../../src/config/header-names.ts";
import { listeners, routeConfigurations } from "../../src/envoy-config/listener.ts";
import { behindEnvoy } from "../support/behind-envoy.ts";
import { type Stack, startStack } from "../support/stack.ts";

const yaml = `
issuer: https://auth.test
sign_in: {providers: [{issuer: https://id.test, client_id: c, id: company}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: files, from: https://mcp.test, to: https://up.test/mcp, mcp: {server: {}}}
  - {id: notes, from: https://other.test, to: https://up.test/notes, mcp: {server: {}}}
  - {id: never, from: https://never.test, to: https://up.test/never, mcp: {server: {consent: challenge}}}
`;
const capabilities = { "io.modelcontextprotocol/clientCapabilities": { elicitation: { url: {} } } };

describe("the signed header that sends a call to the gateway's HTTP listener", () => {
  let stack: Stack;
  let listener: Awaited<ReturnType<typeof listen>>;
  beforeAll(async () => {
    stack = await startStack(yaml, { interruptible: true });
    listener = await listen(behindEnvoy().use(stack.consentRequired.routes()).callback());
  });
  afterAll(async () => {
    await listener?.close();
    await stack?.close();
  });
  beforeEach(() => {
    stack.clock.offset = 0;
  });

  /** A call as the check describes it. */
  const described = (more: object = {}) => ({
    route: "files",
    upstream: stack.routes().byId("files")?.upstreamHash,
    user: "company/alice",
    client: "client-1",
    reason: "consent_needed",
    scopes: [],
    path: "/",
    requestId: "r-1",
    protocol: "input_required",
    ...more,
  });
  const signed = (more?: object) => stack.metadataProofs.signHeader("consent", described(more));
  async function send(value: string | undefined, host = "mcp.test", method = "POST") {
    const body = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "x", _meta: capabilities } };
    const response = await new Promise<import("node:http").IncomingMessage>((resolve, reject) => {
      const headers = {
        host,
        "content-type": "application/json",
        ...(value === undefined ? {} : { [consentHeader]: value }),
      };
      request(
        { host: "127.0.0.1", port: listener.port, path: "/.pomerium/mcp/consent-required", method, headers },
        resolve,
      )
        .on("error", reject)
        .end(method === "POST" ? JSON.stringify(body) : undefined);
    });
    return { status: response.statusCode, body: await text(response) };
  }
  const links = async () => {
    const [row] = await stack.query(
      "select count(*)::int as n from pending_authorization where kind = 'consent_link'",
    );
    return row?.n;
  };

  it("is valid once", async () => {
    const value = signed();
    expect((await send(value)).body).toContain("input_required");
    const before = await links();
    expect((await send(value)).status).toBe(404);
    expect(await links()).toBe(before);
  });

  it.each<[string, () => string | undefined]>([
    ["absent", () => undefined],
    ["empty", () => ""],
    [
      "not signed",
      () => `kid.1.n.${Buffer.from(JSON.stringify(described())).toString("base64url")}.${"A".repeat(43)}`,
    ],
    [
      "changed after it was signed",
      () => {
        const [kid, issued, nonce, , mac] = signed().split(".");
        const content = Buffer.from(JSON.stringify(described({ user: "company/bob" }))).toString("base64url");
        return [kid, issued, nonce, content, mac].join(".");
      },
    ],
    [
      "a proof of a check's metadata, which is signed with the same keys",
      () => stack.metadataProofs.prove({ route: "files", user: "company/alice" }),
    ],
    ["for a route's former or other upstream", () => signed({ upstream: "another" })],
    ["for a route that does not exist", () => signed({ route: "gone" })],
  ])("is worth nothing if it is %s", async (_name, value) => {
    const before = await links();
    expect((await send(value())).status).toBe(404);
    expect(await links()).toBe(before);
  });

  it("is worth nothing on another route's host, or for another route", async () => {
    expect((await send(signed(), "other.test")).status).toBe(404);
    expect((await send(signed({ route: "notes" }))).status).toBe(404);
  });

  it("is worth nothing after a minute", async () => {
    const value = signed();
    stack.clock.offset = 61_000;
    expect((await send(value)).status).toBe(404);
  });

  it("only challenges for a route that never asks", async () => {
    const upstream = stack.routes().byId("never")?.upstreamHash;
    expect((await send(signed({ route: "never", upstream }), "never.test")).status).toBe(401);
  });

  it("creates a limited number of links per user and hour; then the call is challenged", async () => {
    let status = 200;
    for (let calls = 0; status === 200 && calls < 500; calls++)
      status = (await send(signed({ user: "company/loop" }))).status ?? 0;
    expect(status).toBe(401);
    expect(await links()).toBeLessThanOrEqual(2 * stack.routes().config.limits.pendingAuthorizationsPerUser);
    expect((await send(signed({ user: "company/other" }))).status).toBe(200);
  });

  it("without the database there is no answer but an error", async () => {
    await stack.databaseProxy.cut();
    const asked = await send(signed({ user: "company/outage" }));
    const session = await send(signed({ user: "company/outage", protocol: "error" }));
    expect([asked.status, session.status]).toEqual([500, 500]);
    expect(asked.body + session.body).not.toContain("elicitation");
    await stack.databaseProxy.restore();
  });

  it("every listener removes a client's own before it selects a route, and only the check's selects again", () => {
    const { config } = stack.routes();
    for (const listener of listeners(config)) {
      const text = JSON.stringify(listener);
      expect(text).toContain(
        `"early_header_mutation_extensions":[{"name":"envoy.http.early_header_mutation.header_mutation","typed_config":{"@type":"type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation","mutations":[{"remove":"${consentHeader}"}`,
      );
      expect(text).toContain(`"clear_route_cache":true,"clear_route_cache_headers":["${consentHeader}"]`);
    }
    for (const { routes } of routeConfigurations(config)) {
      const asking = JSON.stringify(routes).match(/"name":"consent required"/g) ?? [];
      expect(asking.length).toBe(2);
    }
  });
});
