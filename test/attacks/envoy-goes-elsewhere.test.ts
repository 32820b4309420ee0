import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startChecks } from "../ext-authz/start-checks.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { throughEnvoy } from "../support/through-envoy.ts";
import { identityHeaders } from "./identity-headers.ts";

/** A path equivalent to `/b` that Envoy, which compares bytes, does not match with it. */
const disguised = ["/%62", "/%62/x", "//b/x", "/%62%2Dx/../b"];

describe("an Envoy with custom configuration that does not name the route in its checks", () => {
  let checks: Awaited<ReturnType<typeof startChecks>>;
  beforeAll(async () => {
    checks = await startChecks(`
issuer: https://auth.test
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: a, from: https://mcp.test, to: http://a.internal, mcp: {server: {upstream_auth: {api_key: {header: x-api-key, value: key-of-a}}}}}
  - {id: b, from: https://mcp.test/b, to: http://b.internal, mcp: {server: {upstream_auth: {api_key: {header: x-api-key, value: key-of-b}}}}}
`);
  });
  afterAll(() => checks?.close());

  it("a client disguises a route's path: no upstream gets another's credential", async () => {
    const authorization = `Bearer ${await checks.token({ aud: "https://mcp.test/b" })}`;
    const ask = (path: string, context = {}) => {
      const http = {
        method: "POST",
        host: "mcp.test",
        path,
        headers: { ":authority": "mcp.test", authorization },
      };
      return checks.ask({ attributes: { request: { http }, context_extensions: context } });
    };
    expect((await ask("/b/x")).set["x-api-key"]).toBe("key-of-b");
    for (const path of ["/%62", "/%62/x", "//b/x"]) {
      const answer = await ask(path);
      expect([path, answer.status, answer.set]).toEqual([path, 400, {}]);
      expect(answer.body).toContain("path_not_normal");
      // Waiting does not help here, unlike a mismatch of a named route.
      expect(answer.headers["retry-after"]).toBeUndefined();
      expect((await ask(path, { route: "a" })).status).toBe(503);
      // The same with an Envoy that has matched the intended route.
      expect((await ask(path, { route: "b" })).set["x-api-key"]).toBe("key-of-b");
    }
  });
});

describe("headers that would make an application see a different request than the one that was checked", () => {
  let stack: E2e;
  let application: Server;
  let cookie: string;
  const seen: { method?: string; url?: string; headers: Record<string, unknown> }[] = [];

  beforeAll(async () => {
    application = createServer((request, response) => {
      seen.push({ method: request.method, url: request.url, headers: request.headers });
      request.resume();
      response.end("hello");
    });
    await new Promise<void>((resolve) => application.listen(0, "127.0.0.1", resolve));
    const { port } = application.address() as AddressInfo;
    stack = await startE2e({
      names: ["app.test"],
      config: (config) => {
        const policy = [
          { allow: { and: [{ accept: true }] } },
          { deny: { or: [{ http_path: { starts_with: "/admin" } }, { http_method: { is: "DELETE" } }] } },
        ];
        config.routes.push({
          id: "app",
          from: "https://app.test",
          to: `http://127.0.0.1:${port}`,
          mcp: { client: {} },
          policy,
        });
        return config;
      },
    });
    const browser = stack.browser("alice");
    const signIn = await browser.open("https://app.test/.pomerium/sign_in?return_to=/");
    await browser.agree(signIn, stack.signIn("alice"));
    cookie = await browser.jar.getCookieString("https://app.test/");
  });
  afterAll(async () => {
    await stack?.close();
    application?.closeAllConnections();
    application?.close();
  });

  /** The headers that the application received of a request with these headers. */
  async function send(headers: Record<string, string>) {
    const before = seen.length;
    const answer = await throughEnvoy(stack, {
      url: "https://app.test/x",
      method: "POST",
      headers: { cookie, ...headers },
    });
    expect([answer.status, seen.length]).toEqual([200, before + 1]);
    return seen.at(-1)?.headers ?? {};
  }

  it("a client claims an identity: the application gets only the signed-in person's", async () => {
    const got = await send(
      Object.fromEntries([...identityHeaders, "authorization"].map((name) => [name, "forged"])),
    );
    for (const [name, value] of Object.entries(got)) expect([name, value]).not.toEqual([name, "forged"]);
    expect(got["x-pomerium-jwt-assertion"]).toMatch(/^ey/);
    expect(JSON.stringify(got)).not.toContain("mcp_session");
  });

  it("a client names another path, method, host or address in a header: the application gets none of them", async () => {
    for (const [path, method] of [
      ["/admin", "GET"],
      ["/x", "DELETE"],
    ] as const)
      expect(
        (await throughEnvoy(stack, { url: `https://app.test${path}`, method, headers: { cookie } })).status,
      ).toBe(403);
    const got = await send(Object.fromEntries(overrides.map((name) => [name, "/admin"])));
    expect(Object.keys(got).filter((name) => overrides.includes(name))).toEqual([]);
    // Ordinary headers of browsers and scripts pass.
    const kept = {
      origin: "https://app.test",
      "x-requested-with": "XMLHttpRequest",
      "x-csrf-token": "1",
      "x-anything": "1",
    };
    expect(await send(kept)).toMatchObject(kept);
  });

  it("a client lists the gateway's headers in Connection to make Envoy drop them: they arrive, or the request is rejected", async () => {
    for (const names of ["x-pomerium-jwt-assertion", "authorization, x-pomerium-jwt-assertion", "cookie"]) {
      const before = seen.length;
      const { status } = await throughEnvoy(stack, {
        url: "https://app.test/x",
        headers: { cookie, connection: `close, ${names}` },
      });
      if (status === 200) expect(seen.at(-1)?.headers["x-pomerium-jwt-assertion"]).toMatch(/^ey/);
      else expect(seen.length).toBe(before);
    }
  });

  it("a client disguises a path: the application sees the checked path, or nothing", async () => {
    for (const path of [
      ...disguised,
      "/%61dmin",
      "/x/..%2fadmin",
      "/x/%2e%2e/admin",
      "/admin;x",
      "//admin",
      "/./admin",
    ]) {
      const before = seen.length;
      const { status } = await throughEnvoy(stack, { url: "https://app.test/", path, headers: { cookie } });
      if (/admin/.test(path.replace(/%61/, "a")))
        expect([path, status, seen.length]).toEqual([path, status, before]);
      if (/admin/.test(path.replace(/%61/, "a"))) expect([400, 403]).toContain(status);
    }
  });
});

const overrides = [
  "x-original-url",
  "x-original-uri",
  "x-original-method",
  "x-rewrite-url",
  "x-http-method-override",
  "x-http-method",
  "x-method-override",
  "forwarded",
  "x-real-ip",
  "x-client-ip",
  "x-cluster-client-ip",
  "true-client-ip",
  "cf-connecting-ip",
  "fastly-client-ip",
  "x-forwarded-port",
  "x-forwarded-prefix",
  "x-forwarded-path",
  "x-forwarded-uri",
  "x-forwarded-server",
  "x-forwarded-scheme",
  "x-forwarded-ssl",
  "x-forwarded-method",
  "x-host",
  "x-envoy-original-path",
  "front-end-https",
];
