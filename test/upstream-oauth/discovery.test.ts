import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isResource, resourceCovers } from "../../src/upstream-oauth/resource-metadata.ts";
import type { DiscoveryStep } from "../../src/upstream-oauth/upstream-oauth.ts";
import { parseChallenge } from "../../src/upstream-oauth/www-authenticate.ts";
import { scraped } from "../support/scraped.ts";
import { type ScriptedServer, scriptedServer } from "./scripted-server.ts";
import { type ScriptedUpstream, scriptedUpstream } from "./scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "./start-oauth-client.ts";

const prm = "/.well-known/oauth-protected-resource";
const rfc8414 = "/.well-known/oauth-authorization-server";
const oidc = "/.well-known/openid-configuration";

describe("discovery", () => {
  let upstream: ScriptedUpstream;
  let elsewhere: ScriptedServer;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    elsewhere = await scriptedServer();
    stack = await startOAuthClient(route());
  });
  afterEach(async () => {
    await Promise.all([upstream.close(), elsewhere.close(), stack.close()]);
  });
  const route = (server = "{}") =>
    `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: ${server}}}`;
  const begin = () =>
    stack.upstreamOAuth.begin({ userId: alice, route: stack.route(), returnTo: "https://mcp.test/done" });
  const begun = async () => {
    const result = await begin();
    if (!result.ok) throw new Error(`${result.code}: ${result.message}`);
    return new URL(result.location);
  };
  const failure = async () => {
    const result = await begin();
    if (result.ok) throw new Error(`went to ${result.location}`);
    return result;
  };
  /** Metadata of `server` as an issuer, at `path` of its issuer. */
  const metadataOf = (server: ScriptedServer, issuer = server.url) => ({
    ...upstream.metadata,
    issuer,
    authorization_endpoint: `${server.url}/authorize`,
    token_endpoint: `${server.url}/token`,
    registration_endpoint: `${upstream.url}/register`,
  });

  it("starts from the resource_metadata of the upstream's own 401, anywhere on its origin", async () => {
    upstream.on("/mcp", {
      status: 401,
      headers: { "www-authenticate": `Bearer realm="x", resource_metadata="${upstream.url}/my-metadata"` },
    });
    upstream.on("/my-metadata", {
      body: { resource: upstream.mcp, authorization_servers: [`${elsewhere.url}/tenant`] },
    });
    elsewhere.on(`${rfc8414}/tenant`, { body: metadataOf(elsewhere, `${elsewhere.url}/tenant`) });
    expect((await begun()).origin).toBe(elsewhere.url);
    expect(upstream.paths()).toEqual(["/mcp", "/my-metadata", "/register"]);
    expect(elsewhere.paths()).toEqual([`${rfc8414}/tenant`]);
  });

  it("resource metadata that a challenge names on another origin is not requested, stored or not", async () => {
    elsewhere.on("/prm", { body: { resource: upstream.mcp, authorization_servers: [elsewhere.url] } });
    elsewhere.on(rfc8414, { body: metadataOf(elsewhere) });
    const challenge = `Bearer resource_metadata="${elsewhere.url}/prm"`;
    upstream.on("/mcp", { status: 401, headers: { "www-authenticate": challenge } });
    expect((await begun()).origin).toBe(upstream.url);
    // As stored after a forged response, or by an earlier version.
    const key = { userId: alice, routeId: "files", upstream: upstream.mcp };
    const demand = { scopes: [], resourceMetadata: `${elsewhere.url}/prm`, requiredAt: new Date() };
    await stack.store.upstreamTokens.requireScopes(key, demand);
    expect((await begun()).origin).toBe(upstream.url);
    expect(elsewhere.paths()).toEqual([]);
    expect(stack.log.join()).toContain("not on the upstream's origin");
    await stack.store.upstreamTokens.clearRequiredScopes(key);
    const about = { userId: alice, routeId: "files", version: undefined, status: 401 } as const;
    await stack.upstreamTokens.handleRejection({ ...about, wwwAuthenticate: challenge });
    expect((await stack.store.upstreamTokens.findRequiredScopes(key))?.resourceMetadata).toBeUndefined();
  });

  it("of several authorization servers that an upstream names, the operator's is used", async () => {
    upstream.on(`${prm}/mcp`, {
      body: { resource: upstream.mcp, authorization_servers: [upstream.url, elsewhere.url] },
    });
    elsewhere.on(rfc8414, { body: metadataOf(elsewhere) });
    expect((await begun()).origin).toBe(upstream.url);
    await stack.reconfigure(route(`{authorization_server_url: "${elsewhere.url}"}`));
    expect((await begun()).origin).toBe(elsewhere.url);
  });

  it("then requests the well-known URL of the path, then the one at the root", async () => {
    upstream.on("/mcp", { status: 401, headers: { "www-authenticate": "Bearer" } });
    expect((await begun()).origin).toBe(upstream.url);
    expect(upstream.paths()).toEqual(["/mcp", `${prm}/mcp`, rfc8414, "/register"]);
    upstream.seen.length = 0;
    upstream.off(`${prm}/mcp`);
    upstream.on(prm, { body: { resource: upstream.url, authorization_servers: [upstream.url] } });
    await stack.close();
    stack = await startOAuthClient(route());
    const location = await begun();
    expect(location.searchParams.get("resource")).toBe(upstream.url);
    expect(upstream.paths()).toEqual(["/mcp", `${prm}/mcp`, prm, rfc8414, "/register"]);
  });

  it("continues if the challenge's document does not exist", async () => {
    upstream.on("/mcp", {
      status: 401,
      headers: { "www-authenticate": `Bearer resource_metadata="${upstream.url}/gone"` },
    });
    expect((await begun()).origin).toBe(upstream.url);
    expect(upstream.paths()).toContain("/gone");
  });

  it("then uses authorization_server_url, which resource metadata would have overruled", async () => {
    elsewhere.on(rfc8414, { body: metadataOf(elsewhere) });
    await stack.reconfigure(route(`{authorization_server_url: "${elsewhere.url}"}`));
    expect((await begun()).origin).toBe(upstream.url);
    upstream.off(`${prm}/mcp`);
    await stack.close();
    stack = await startOAuthClient(route(`{authorization_server_url: "${elsewhere.url}"}`));
    expect((await begun()).origin).toBe(elsewhere.url);
  });

  it("then takes the upstream's origin as issuer, then that origin's default endpoints", async () => {
    upstream.on("/mcp", { status: 401 });
    upstream.off(`${prm}/mcp`);
    expect((await begun()).pathname).toBe("/authorize");
    expect(upstream.paths()).toEqual(["/mcp", `${prm}/mcp`, prm, rfc8414, "/register"]);
    upstream.seen.length = 0;
    upstream.off(rfc8414);
    await stack.close();
    stack = await startOAuthClient(route());
    const location = await begun();
    expect(location.origin + location.pathname).toBe(`${upstream.url}/authorize`);
    expect(location.searchParams.get("code_challenge_method")).toBe("S256");
    expect(upstream.paths()).toEqual(["/mcp", `${prm}/mcp`, prm, rfc8414, oidc, "/register"]);
  });

  it("looks for an issuer with a path in three places", async () => {
    const issuer = `${elsewhere.url}/realms/one`;
    upstream.on(`${prm}/mcp`, { body: { resource: upstream.mcp, authorization_servers: [issuer] } });
    elsewhere.on(`/realms/one${oidc}`, { body: metadataOf(elsewhere, issuer) });
    expect((await begun()).origin).toBe(elsewhere.url);
    expect(elsewhere.paths()).toEqual([`${rfc8414}/realms/one`, `${oidc}/realms/one`, `/realms/one${oidc}`]);
  });

  it("tries the next authorization server when the first publishes nothing", async () => {
    elsewhere.on(rfc8414, { body: metadataOf(elsewhere) });
    const servers = [`${upstream.url}/nobody`, elsewhere.url];
    upstream.on(`${prm}/mcp`, { body: { resource: upstream.mcp, authorization_servers: servers } });
    expect((await begun()).origin).toBe(elsewhere.url);
  });

  it.each([
    ["another host's", () => ({ issuer: "https://evil.test" })],
    ["a longer path's", () => ({ issuer: `${upstream.url}/more` })],
    ["nobody's", () => ({ issuer: 7 })],
  ])("rejects metadata whose issuer is %s", async (_which, fields) => {
    Object.assign(upstream.metadata, fields());
    const result = await failure();
    expect(["issuer_mismatch", "discovery_failed"]).toContain(result.code);
    expect(result.retryable).toBe(false);
    expect(upstream.registered).toEqual([]);
  });

  it.each(["https://other.test/mcp", "/mcp", "elsewhere", "other-path"])(
    "rejects resource metadata of another resource (%s)",
    async (resource) => {
      const value = resource === "other-path" ? `${upstream.url}/mcp2` : resource;
      upstream.on(`${prm}/mcp`, { body: { resource: value, authorization_servers: [upstream.url] } });
      const result = await failure();
      expect(result.code).toBe("resource_mismatch");
      expect(result.message).not.toContain("other.test");
    },
  );

  it("a resource covers URLs below it, and nothing else", () => {
    const url = "https://x.test/a/b";
    for (const good of ["https://x.test", "https://x.test/", "https://x.test/a", "https://x.test/a/b/"]) {
      expect(resourceCovers(good, url), good).toBe(true);
    }
    for (const bad of [
      "https://x.test/a/b/c",
      "https://x.test/a/bc",
      "http://x.test",
      "https://x.test:444",
      "",
    ]) {
      expect(resourceCovers(bad, url), bad).toBe(false);
    }
    for (const [resource, under, covers] of [
      ["https://x.test/a/b?c=1", "https://x.test/a/b?c=1", true],
      ["https://x.test/a/b/?c=1", "https://x.test/a/b?c=1", true],
      ["https://x.test/a/b", "https://x.test/a/b?c=1", true],
      ["https://x.test/a/b?", "https://x.test/a/b?c=1", true],
      ["https://x.test/a/b?c=2", "https://x.test/a/b?c=1", false],
      ["https://x.test/a/b?c=1/", "https://x.test/a/b?c=1", false],
      ["https://x.test/a/b?c=1&d=2", "https://x.test/a/b?c=1", false],
      ["https://x.test/a/b?c=1", "https://x.test/a/b", false],
      ["https://x.test/a?c=1", "https://x.test/a/b?c=1", false],
      ["https://x.test?c=1", "https://x.test/a/b?c=1", false],
      ["https://u:p@x.test/a", url, false],
      ["https://u@x.test/a/b?c=1", "https://x.test/a/b?c=1", false],
    ] as const) {
      expect(resourceCovers(resource, under), resource).toBe(covers);
      if (!covers || resource === under) expect(isResource(resource, under), resource).toBe(covers);
    }
  });

  it("metadata for another query than that of `to` is rejected; the failure names both, and a later URL may have the right one", async () => {
    await stack.reconfigure(route().replace(upstream.mcp, `${upstream.mcp}?project=1`));
    const named = (query: string) => ({
      body: { resource: `${upstream.mcp}${query}`, authorization_servers: [upstream.url] },
    });
    upstream.on(`${prm}/mcp`, named("?project=2"));
    const result = await failure();
    expect(result).toMatchObject({ code: "resource_mismatch", retryable: false });
    expect(result.message).toContain(`${upstream.mcp}?project=1`);
    expect(stack.log.join()).toContain(`${upstream.mcp}?project=2`);
    expect(upstream.registered).toEqual([]);
    const steps: DiscoveryStep[] = [];
    const found = await stack.upstreamOAuth.discover(stack.route(), (step) => steps.push(step));
    expect(found).toMatchObject({ ok: false, code: "resource_mismatch" });
    expect(steps.map(({ finding }) => finding)).toContain(
      `describes a different resource than the route's upstream (${upstream.mcp}?project=1): ${upstream.mcp}?project=2`,
    );
    upstream.on(prm, named("?project=1"));
    stack.upstreamOAuth.forget(stack.route());
    expect((await begun()).searchParams.get("resource")).toBe(`${upstream.mcp}?project=1`);
    // The same from a challenge: its document is ignored.
    const challenge = `Bearer resource_metadata="${upstream.url}/theirs"`;
    upstream.on("/mcp", { status: 401, headers: { "www-authenticate": challenge } });
    upstream.on("/theirs", named("?project=2"));
    expect((await begun()).searchParams.get("resource")).toBe(`${upstream.mcp}?project=1`);
    expect(upstream.paths()).toContain("/theirs");
  });

  it.each<[string, object, string]>([
    ["a redirect", { status: 302, headers: { location: "https://other.test/x" } }, "redirect_not_followed"],
    ["2 MiB", { body: "x".repeat(2 * 1024 * 1024) }, "response_too_large"],
    ["invalid JSON", { body: "{", headers: { "content-type": "application/json" } }, "discovery_failed"],
    ["a web page", { body: "<html>", headers: { "content-type": "text/html" } }, "discovery_failed"],
    ["a list", { body: [1] }, "discovery_failed"],
    ["an error 500", { status: 500 }, "server_error"],
  ])("fails cleanly when metadata is %s", async (_what, answer, code) => {
    for (const path of [rfc8414, oidc]) upstream.on(path, answer);
    expect((await failure()).code).toBe(code);
  });

  it("fails cleanly, and says that a later attempt may help, if metadata times out", async () => {
    for (const path of [rfc8414, oidc]) upstream.on(path, () => undefined);
    const settings = "upstream_oauth: {allowed_private_hosts: [127.0.0.1], timeout: 0.1s}";
    await stack.close();
    stack = await startOAuthClient(route(), { settings });
    const result = await failure();
    expect(result).toMatchObject({
      code: "unreachable",
      retryable: true,
      oauthError: "temporarily_unavailable",
    });
  });

  it("never follows metadata into a private network, by address or by name", async () => {
    const settings = "upstream_oauth: {}";
    for (const issuer of ["https://10.0.0.1", "https://inner.test", elsewhere.url]) {
      upstream.on(`${prm}/mcp`, { body: { resource: upstream.mcp, authorization_servers: [issuer] } });
      await stack.close();
      stack = await startOAuthClient(route(), {
        settings,
        resolveHost: (_name, done) => done(null, [{ address: "127.0.0.1", family: 4 }]),
      });
      expect((await failure()).code, issuer).toBe("endpoint_not_allowed");
    }
    expect(elsewhere.seen).toEqual([]);
  });

  it("allowed_as_metadata_domains limits whose metadata is accepted", async () => {
    const settings =
      "upstream_oauth: {allowed_private_hosts: [127.0.0.1], allowed_as_metadata_domains: ['*.company.test']}";
    await stack.close();
    stack = await startOAuthClient(route(), { settings });
    expect((await failure()).code).toBe("metadata_domain_not_allowed");
    expect(upstream.paths()).not.toContain(rfc8414);
  });

  it.each(["authorization_endpoint", "token_endpoint", "registration_endpoint"])(
    "rejects metadata with an %s in clear text",
    async (name) => {
      upstream.metadata[name] = "http://plain.test/x";
      expect((await failure()).code).toBe("endpoint_not_allowed");
    },
  );

  it("rejects a server whose metadata does not list S256, and says what to do", async () => {
    upstream.metadata.code_challenge_methods_supported = ["plain"];
    const result = await failure();
    expect(result.code).toBe("pkce_not_supported");
    expect(result.message).toMatch(/S256.*upstream_oauth2\.endpoint/);
    upstream.metadata.code_challenge_methods_supported = undefined;
    await stack.close();
    stack = await startOAuthClient(route());
    expect((await failure()).code).toBe("pkce_not_supported");
  });

  it("documents are cached: a second authorization only requests the upstream itself", async () => {
    await begun();
    upstream.seen.length = 0;
    await begun();
    expect(upstream.paths()).toEqual(["/mcp"]);
  });

  it("concurrent first requests of many users start one discovery and one registration", async () => {
    const begins = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        stack.upstreamOAuth.begin({
          userId: `company/${index}`,
          route: stack.route(),
          returnTo: "https://mcp.test/x",
        }),
      ),
    );
    expect(begins.every(({ ok }) => ok)).toBe(true);
    expect(upstream.paths().filter((path) => path === rfc8414).length).toBe(1);
    expect(upstream.registered.length).toBe(1);
  });

  it("limits.metadata_cache_entries: a full cache evicts its oldest document, and counts it", async () => {
    const [limits, open] = ["limits: {metadata_cache_entries: 2}", "allowed_private_hosts: [127.0.0.1]"];
    await stack.close();
    stack = await startOAuthClient(
      `${route()}\n${route().replace("files", "more").replace("mcp.test", "more.test")}`,
      {
        settings: `${limits}\nupstream_oauth: {${open}}`,
      },
    );
    const evicted = async () =>
      (await stack.metrics.cacheEvictions.get()).values.map(({ labels, value }) => [labels.cache, value]);
    await begun();
    await begun();
    expect(await evicted()).toEqual([]);
    const userId = alice;
    await stack.upstreamOAuth.begin({
      userId,
      route: stack.route("more"),
      returnTo: "https://more.test/done",
    });
    expect(await evicted()).toEqual([["discovery", 2]]);
    upstream.seen.length = 0;
    await begun();
    expect(upstream.paths()).toEqual(["/mcp", `${prm}/mcp`, rfc8414]);
  });

  it("after a rejection the documents are revalidated", async () => {
    upstream.on(rfc8414, ({ headers }) =>
      headers["if-none-match"] === '"v1"'
        ? { status: 304 }
        : { body: upstream.metadata, headers: { etag: '"v1"', "cache-control": "max-age=600" } },
    );
    await begun();
    stack.upstreamOAuth.forget(stack.route());
    await begun();
    const asked = upstream.seen.filter(({ path }) => path === rfc8414);
    expect(asked.map(({ headers }) => headers["if-none-match"])).toEqual([undefined, '"v1"']);
  });

  it("a failure has no validator: a 304 does not confirm it", async () => {
    upstream.on(rfc8414, { status: 503, headers: { etag: '"v1"' }, body: "down" });
    await expect(begun()).rejects.toThrow();
    upstream.on(rfc8414, ({ headers }) =>
      headers["if-none-match"] ? { status: 304 } : { body: upstream.metadata },
    );
    stack.upstreamOAuth.forget(stack.route());
    await begun();
    const asked = upstream.seen.filter(({ path }) => path === rfc8414);
    expect(asked.map(({ headers }) => headers["if-none-match"])).toEqual([undefined, undefined]);
  });

  it("an upstream that requires no token needs no consent; one that does is detected with one request", async () => {
    const asked = await stack.upstreamOAuth.needed(stack.route());
    expect(asked).toBe(true);
    expect(stack.upstreamOAuth.needed(stack.route())).toBe(true);
    upstream.on("/mcp", { body: { jsonrpc: "2.0", id: 1, result: {} } });
    upstream.off(`${prm}/mcp`);
    await stack.close();
    stack = await startOAuthClient(route());
    expect(await stack.upstreamOAuth.needed(stack.route())).toBe(false);
    stack.upstreamOAuth.noteNeeded(stack.route());
    expect(stack.upstreamOAuth.needed(stack.route())).toBe(true);
  });

  it("what is undone of a new route is not the client that a user has registered at the same time", async () => {
    const [asked, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    upstream.on("/register", async () => {
      asked.resolve();
      await answered.promise;
      return { status: 201, body: { client_id: "of-the-user" } };
    });
    const user = begin();
    await asked.promise;
    const before = upstream.paths().filter((path) => path === rfc8414).length;
    const preparing = stack.upstreamOAuth.prepare(stack.route(), stack.routes());
    await expect
      .poll(() => upstream.paths().filter((path) => path === rfc8414).length, { timeout: 60_000 })
      .toBe(before + 1);
    answered.resolve();
    const prepared = await preparing;
    expect(prepared).toMatchObject({ ok: true, discovery: { client_id: "of-the-user" } });
    if (prepared.ok) await prepared.undo();
    const begun = await user;
    const { searchParams } = new URL(begun.ok ? begun.location : "about:blank");
    const [issuer, redirectUri] = [upstream.url, searchParams.get("redirect_uri") ?? ""];
    expect(await stack.store.clientRegistrations.find(issuer, redirectUri)).toMatchObject({
      clientId: "of-the-user",
    });
  });

  it("probes and registrations for new routes are counted by outcome", async () => {
    await stack.upstreamOAuth.needed(stack.route());
    upstream.on("/register", { status: 503, body: "down" });
    await stack.upstreamOAuth.prepare(stack.route(), stack.routes());
    upstream.on("/register", { status: 201, body: { client_id: "prepared" } });
    await stack.upstreamOAuth.prepare(stack.route(), stack.routes());
    await stack.reconfigure(route().replace(upstream.mcp, "http://127.0.0.1:1/mcp"));
    await expect(stack.upstreamOAuth.needed(stack.route())).rejects.toThrow();
    expect(await scraped(stack.metrics, "upstream_oauth_total")).toEqual({
      'step="discovery",outcome="ok"': 1,
      'step="discovery",outcome="unreachable"': 1,
      'step="prepare",outcome="ok"': 1,
      'step="prepare",outcome="server_error"': 1,
    });
  });

  it("an upstream that streams its response to the probe does not delay discovery", async () => {
    upstream.on("/mcp", { headers: { "content-type": "text/event-stream" }, body: ": hello\n\n" });
    upstream.off(`${prm}/mcp`);
    expect(await stack.upstreamOAuth.needed(stack.route())).toBe(false);
  });

  it("doctor reports every step with its URL, status and finding, and registers nothing", async () => {
    const steps: DiscoveryStep[] = [];
    const found = await stack.upstreamOAuth.discover(stack.route(), (step) => steps.push(step));
    expect(found).toEqual({ ok: true, needed: true, issuer: upstream.url, scopes: ["read", "write"] });
    expect(steps.map(({ name, status, ok }) => [name, status, ok])).toEqual([
      ["upstream", 401, true],
      ["resource_metadata", 200, true],
      ["server_metadata", 200, true],
      ["capabilities", undefined, true],
      ["client", undefined, true],
      ["token_endpoint", 401, true],
      ["result", undefined, true],
    ]);
    expect(steps[1]?.url).toBe(`${upstream.url}${prm}/mcp`);
    expect(upstream.registered).toEqual([]);
    upstream.metadata.registration_endpoint = undefined;
    const failed = await stack.upstreamOAuth.discover(stack.route(), (step) => steps.push(step));
    expect(failed).toMatchObject({ ok: false, code: "registration_unavailable" });
    expect(steps.at(-1)?.finding).toContain("https://mcp.test/.pomerium/mcp/client/oauth/callback");
  });

  it("reads challenges as servers write them", () => {
    const header =
      'Basic realm="a, b", Bearer error="insufficient_scope", scope="read  write", resource_metadata="https://x.test/m"';
    expect(parseChallenge(header)).toEqual({
      error: "insufficient_scope",
      scopes: ["read", "write"],
      resourceMetadata: "https://x.test/m",
    });
    expect(parseChallenge("Bearer")).toEqual({ scopes: [] });
    const relative = 'Bearer resource_metadata="/relative"';
    expect(parseChallenge(relative)).toEqual({ scopes: [], unreadableMetadata: true });
    expect(parseChallenge(relative, "https://x.test/mcp")?.resourceMetadata).toBe("https://x.test/relative");
    for (const none of [null, "", "Basic", "=", '"'.repeat(5000)])
      expect(parseChallenge(none)).toBeUndefined();
  });
});
