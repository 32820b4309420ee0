import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { askedAt } from "../../src/config/paths.ts";
import { serverStates } from "../../src/portal/server-states.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

const prm = "/.well-known/oauth-protected-resource";

describe("the location of an upstream's MCP endpoint", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeAll(async () => {
    upstream = await scriptedUpstream();
    const settings = "upstream_oauth: {allowed_private_hosts: [127.0.0.1, localhost], timeout: 3s}";
    stack = await startOAuthClient(route(), { settings });
  });
  afterAll(() => Promise.all([upstream.close(), stack.close()]));
  beforeEach(async () => {
    await stack.reconfigure(route());
    for (const path of ["", "/mcp", "/other/mcp", "/team", "/team/mcp", "/api"]) {
      upstream.off(path || "/");
      upstream.off(`${prm}${path}`);
    }
    stack.upstreamOAuth.forget(stack.route());
    upstream.seen.length = 0;
  });
  afterEach(async () => {
    await stack.upstreamTokens.disconnect(alice, stack.route());
  });
  const route = (server = "{}", from = "https://mcp.test", to = upstream.url) =>
    `  - {id: files, from: "${from}", to: "${to}", mcp: {server: ${server}}}`;
  /** A server with its endpoint and metadata at this path. */
  const serve = (path: string, resource = `${upstream.url}${path}`) => {
    upstream.on(path, { status: 401, headers: { "www-authenticate": "Bearer" } });
    upstream.on(`${prm}${path}`, { body: { resource, authorization_servers: [upstream.url] } });
  };
  const begin = async (askedPath?: string) => {
    const asked = askedAt(stack.route(), askedPath);
    const begun = await stack.upstreamOAuth.begin({
      userId: alice,
      route: asked,
      returnTo: "https://mcp.test/done",
    });
    if (!begun.ok) throw new Error(`${begun.code}: ${begun.message}`);
    return begun;
  };
  const resourceOf = (location: string) => new URL(location).searchParams.get("resource");
  const finish = async (begun: { readonly location: string; readonly state: string }) => {
    const callback = new URL(begun.location).searchParams.get("redirect_uri") ?? "";
    const params = upstream.agree(begun.location);
    const response = { params, callback, host: "mcp.test", userId: alice, browserState: begun.state };
    const finished = await stack.upstreamOAuth.finish(response);
    if (!finished.ok) throw new Error(`${finished.code}: ${finished.message}`);
  };
  const connect = async (askedPath?: string) => {
    const begun = await begin(askedPath);
    await finish(begun);
    return begun;
  };
  const find = (askedPath?: string) =>
    stack.upstreamTokens.find({ userId: alice, kind: "person", askedPath }, stack.route());
  const tokenAt = async (askedPath?: string) => {
    const found = await find(askedPath);
    return found.kind === "credential" ? found.headers[0]?.[1] : found.kind;
  };
  const doctor = async () => {
    const urls: string[] = [];
    const found = await stack.upstreamOAuth.discover(stack.route(), ({ url = "", ok }) => {
      if (ok) urls.push(url);
    });
    return { found, urls };
  };

  test("if `to` has no path, it is the path that the client requested: metadata, resource and refreshes name it", async () => {
    serve("/mcp");
    const { location } = await connect("/mcp");
    expect(resourceOf(location)).toBe(`${upstream.url}/mcp`);
    expect(upstream.tokenRequests.at(-1)?.get("resource")).toBe(`${upstream.url}/mcp`);
    expect(await tokenAt("/mcp")).toMatch(/^Bearer /);
  });

  test("a connection made by a client is also used by calls without a path, the connect page and the portal", async () => {
    serve("/mcp");
    await connect("/mcp");
    expect(await tokenAt()).toBe(await tokenAt("/mcp"));
    expect(await stack.upstreamTokens.connectionState(alice, stack.route())).toMatchObject({
      state: "connected",
    });
    expect(await stack.upstreamTokens.disconnect(alice, stack.route())).toBe(true);
    expect((await find("/mcp")).kind).toBe("missing");
  });

  test("and one made without a path serves a later client", async () => {
    serve("/mcp");
    const { location } = await connect();
    expect(resourceOf(location)).toBe(`${upstream.url}/mcp`);
    expect(await tokenAt("/mcp")).toBe(await tokenAt());
  });

  test("if it is not set, the root is tried, then /mcp; doctor and the admin API do the same", async () => {
    serve("/mcp");
    expect(await stack.upstreamOAuth.needed(stack.route())).toBe(true);
    const { found, urls } = await doctor();
    expect(found).toMatchObject({ ok: true, needed: true, issuer: upstream.url });
    expect(urls).toContain(`${upstream.url}/mcp`);
    expect(await stack.upstreamOAuth.prepare(stack.route(), stack.routes())).toMatchObject({
      ok: true,
      needed: true,
    });
  });

  test("listing, portal and doctor use mcp.server.path, without trying other URLs", async () => {
    serve("/mcp");
    serve("/api");
    const listed = async () => {
      const components = {
        upstreamTokens: stack.upstreamTokens,
        endpointPath: stack.upstreamOAuth.endpointPath,
      };
      return (await serverStates(components, alice, [stack.route()])).map(({ url }) => url);
    };
    expect(await listed()).toEqual(["https://mcp.test/mcp"]);
    await stack.reconfigure(route("{path: /api}"));
    upstream.seen.length = 0;
    expect(await listed()).toEqual(["https://mcp.test/api"]);
    const { found, urls } = await doctor();
    expect(found).toMatchObject({ ok: true, needed: true });
    expect(urls).toContain(`${upstream.url}/api`);
    expect(upstream.paths()).toContain("/api");
    expect(upstream.paths()).not.toContain("/mcp");
    // Without OAuth, a session is opened there, too.
    await stack.reconfigure(route("{path: /api, upstream_auth: none}"));
    upstream.on("/api", { body: {} });
    expect((await doctor()).found).toMatchObject({ ok: true, needed: false });
    expect(upstream.paths()).not.toContain("/mcp");
  });

  describe("a server whose endpoint has moved", () => {
    afterEach(() => void vi.useRealTimers());
    const later = (seconds: number) =>
      vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + seconds * 1000 });
    const path = () => stack.upstreamOAuth.endpointPath(stack.route());
    const move = () => {
      upstream.off("/mcp");
      upstream.off(`${prm}/mcp`);
      serve("/");
      upstream.on(prm, { body: { resource: upstream.url, authorization_servers: [upstream.url] } });
    };
    afterEach(() => void upstream.off(prm));

    test("is found at its new URL after it rejects a token", async () => {
      serve("/mcp");
      await connect();
      expect(await path()).toBe("/mcp");
      move();
      const found = await find();
      const version = found.kind === "credential" ? found.version : undefined;
      const about = { userId: alice, routeId: "files", status: 401, wwwAuthenticate: "Bearer" } as const;
      await stack.upstreamTokens.handleRejection({ ...about, version });
      expect(await path()).toBe("");
    });

    test("is found there without a rejection, too, a minute later", async () => {
      serve("/mcp");
      expect(await path()).toBe("/mcp");
      move();
      const asked = upstream.seen.length;
      expect(await path()).toBe("/mcp");
      expect(upstream.seen.length).toBe(asked);
      later(61);
      expect(await Promise.all([path(), path()])).toEqual(["", ""]);
      expect(upstream.paths().slice(asked)).toEqual(["/", prm]);
    });

    test("or is briefly unavailable keeps it; one that was not found is looked up again soon", async () => {
      serve("/mcp");
      expect(await path()).toBe("/mcp");
      upstream.on("/mcp", { status: 503, body: "down" });
      upstream.off(`${prm}/mcp`);
      later(61);
      expect(await path()).toBe("/mcp");
      stack.upstreamOAuth.forget(stack.route());
      expect(await path()).toBe("");
      serve("/mcp");
      later(61);
      expect(await path()).toBe("/mcp");
    });
  });

  test("a server whose endpoint is at the root keeps it", async () => {
    serve("/");
    upstream.on(prm, { body: { resource: upstream.url, authorization_servers: [upstream.url] } });
    expect(resourceOf((await begin()).location)).toBe(upstream.url);
    upstream.off(prm);
  });

  test("mcp.server.path sets it, with and without upstream_oauth2", async () => {
    await stack.reconfigure(route("{path: /api}"));
    serve("/api");
    expect(resourceOf((await begin()).location)).toBe(`${upstream.url}/api`);
    const endpoint = `{auth_url: "${upstream.url}/authorize", token_url: "${upstream.url}/token"}`;
    await stack.reconfigure(route(`{path: /api, upstream_oauth2: {client_id: c, endpoint: ${endpoint}}}`));
    expect(resourceOf((await begin()).location)).toBe(`${upstream.url}/api`);
    expect(resourceOf((await begin("/other/mcp")).location)).toBe(`${upstream.url}/other/mcp`);
  });

  test.each(["the whole URL", "the path alone"])(
    "a query in `to` is part of it for probes, resource, refreshes and doctor, with metadata for %s",
    async (place) => {
      const asked = (project: number) => `${upstream.url}/mcp?project=${project}`;
      await stack.reconfigure(route("{}", "https://mcp.test", asked(1)));
      upstream.on("/mcp", { status: 401, headers: { "www-authenticate": "Bearer" } });
      upstream.on(`${prm}/mcp`, ({ query }) => {
        if (query.has("project") !== (place === "the whole URL")) return { status: 404, body: "no" };
        return { body: { resource: asked(1), authorization_servers: [upstream.url] } };
      });
      const { found, urls } = await doctor();
      expect(found).toMatchObject({ ok: true, needed: true });
      expect(urls).toContain(asked(1));
      const { location } = await connect();
      expect(resourceOf(location)).toBe(asked(1));
      expect(upstream.tokenRequests.at(-1)?.get("resource")).toBe(asked(1));
      const later = Date.now() + 7_200_000;
      expect(
        await stack.upstreamTokens.find({ userId: alice, kind: "person" }, stack.route(), later),
      ).toMatchObject({
        kind: "credential",
      });
      expect(upstream.tokenRequests.at(-1)?.get("grant_type")).toBe("refresh_token");
      expect(upstream.tokenRequests.at(-1)?.get("resource")).toBe(asked(1));
      const at = (path: string) => upstream.seen.filter((one) => one.path === path);
      for (const { query } of at("/mcp")) expect(query.toString()).toBe("project=1");
      // The whole URL is requested first.
      const queries = at(`${prm}/mcp`).map(({ query }) => query.toString());
      expect([...new Set(queries)]).toEqual(place === "the whole URL" ? ["project=1"] : ["project=1", ""]);
    },
  );

  test("a connection for one query is not valid for another, nor for endpoints below it", async () => {
    const at = (query: string) => route("{}", "https://mcp.test", `${upstream.url}/mcp?project=${query}`);
    await stack.reconfigure(at("1"));
    upstream.on("/mcp", { status: 401, headers: { "www-authenticate": "Bearer" } });
    const endpoints = ["/mcp", "/mcp/x", "/mcp/y"];
    for (const path of endpoints) {
      upstream.on(path, { status: 401, headers: { "www-authenticate": "Bearer" } });
      upstream.on(`${prm}${path}`, ({ query }) => ({
        body: { resource: `${upstream.url}${path}?${query}`, authorization_servers: [upstream.url] },
      }));
    }
    await connect("/x");
    await connect("/y");
    const all = () => Promise.all(["/x", "/y"].map(tokenAt));
    const stored = async () =>
      (await stack.store.upstreamTokens.listForUser(alice)).map((one) => one.upstream).toSorted();
    const own = await all();
    expect(own).toEqual([expect.stringMatching(/^Bearer /), expect.stringMatching(/^Bearer /)]);
    const both = [`${upstream.url}/mcp/y?project=1`, `${upstream.url}/mcp?project=1`];
    expect(await stored()).toEqual(both);
    for (const other of ["2", "1&more=1", "11"]) {
      await stack.reconfigure(at(other));
      expect(await all()).toEqual(["missing", "missing"]);
      const found = await stack.upstreamTokens.connectionState(alice, stack.route());
      expect(found).toMatchObject({ state: "missing" });
      await stack.upstreamTokens.disconnect(alice, stack.route());
      expect(await stored()).toEqual(both);
    }
    await stack.reconfigure(at("1"));
    expect(await all()).toEqual(own);
    await stack.upstreamTokens.disconnect(alice, stack.route());
    expect(await stored()).toEqual([]);
    for (const path of endpoints) for (const place of [path, `${prm}${path}`]) upstream.off(place);
  });

  test("a prefix that `to` does not replace is part of it", async () => {
    await stack.reconfigure(route("{}", "https://mcp.test/team"));
    serve("/team/mcp");
    expect(resourceOf((await begin("/mcp")).location)).toBe(`${upstream.url}/team/mcp`);
    expect(resourceOf((await begin()).location)).toBe(`${upstream.url}/team/mcp`);
    serve("/team");
    stack.upstreamOAuth.forget(stack.route());
    expect(resourceOf((await begin()).location)).toBe(`${upstream.url}/team`);
  });

  test("two endpoints below one route, each with its own metadata, never get each other's token", async () => {
    serve("/mcp");
    serve("/other/mcp");
    await connect("/mcp");
    const first = await tokenAt("/mcp");
    expect((await find("/other/mcp")).kind).toBe("missing");
    const { location } = await connect("/other/mcp");
    expect(resourceOf(location)).toBe(`${upstream.url}/other/mcp`);
    const second = await tokenAt("/other/mcp");
    expect([second, await tokenAt("/mcp")]).toEqual([expect.stringMatching(/^Bearer /), first]);
    expect(second).not.toBe(first);
    // A token that one rejects does not affect the other.
    const { version } = (await find("/other/mcp")) as { version?: number };
    const about = { userId: alice, routeId: "files", status: 401, wwwAuthenticate: "Bearer" } as const;
    await stack.upstreamTokens.handleRejection({ ...about, version, askedPath: "/other/mcp" });
    expect(await tokenAt("/mcp")).toBe(first);
    // No route was removed: neither connection is an orphan.
    await stack.upstreamTokens.disconnectOrphans();
    expect((await stack.store.upstreamTokens.listForUser(alice)).length).toBe(2);
    await stack.upstreamTokens.disconnect(alice, stack.route());
    expect(await stack.store.upstreamTokens.listForUser(alice)).toEqual([]);
  });

  test("disconnecting a route is final for each of its endpoints, whenever the user consented", async () => {
    for (const path of ["/mcp", "/other/mcp"]) serve(path);
    await connect("/mcp");
    const before = await begin("/other/mcp");
    await stack.upstreamTokens.disconnect(alice, stack.route());
    await expect(finish(before)).rejects.toThrow("disconnected_during_authorization");

    await connect("/mcp");
    const during = await begin("/other/mcp");
    const { list } = stack.store.upstreamTokens;
    const finishing = Promise.withResolvers<unknown>();
    vi.spyOn(stack.store.upstreamTokens, "list").mockImplementationOnce(async (which) => {
      const found = await list(which);
      await finish(during).then(finishing.resolve, finishing.resolve);
      return found;
    });
    await stack.upstreamTokens.disconnect(alice, stack.route());
    expect(String(await finishing.promise)).toContain("disconnected_during_authorization");
    expect(await stack.store.upstreamTokens.listForUser(alice)).toEqual([]);
  });

  test("a connection whose metadata covers the whole server serves every endpoint below it", async () => {
    upstream.on("/mcp", { status: 401 });
    upstream.on(prm, { body: { resource: upstream.url, authorization_servers: [upstream.url] } });
    await connect("/mcp");
    expect(await tokenAt("/other/mcp")).toBe(await tokenAt("/mcp"));
    upstream.off(prm);
  });

  test("a client cannot create an unlimited number of connections for a user", async () => {
    serve("/mcp");
    await connect("/mcp");
    for (let number = 1; number <= 8; number += 1) await connect(`/x${number}`);
    await expect(begin("/x9")).rejects.toThrow("too many endpoints");
    expect(await tokenAt("/x8")).toMatch(/^Bearer /);
  });

  test("a path chosen by a client does not decide which server gets the credentials of the routes file", async () => {
    const other = await scriptedUpstream();
    const issuer = other.url.replace("127.0.0.1", "localhost");
    const metadata = { ...other.metadata, issuer, token_endpoint: `${issuer}/token` };
    other.on("/.well-known/oauth-authorization-server", { body: metadata });
    const withClient = (more = "") => route(`{${more}upstream_oauth2: {client_id: c, client_secret: s}}`);
    const evil = { resource: `${upstream.url}/other/mcp`, authorization_servers: [issuer] };
    upstream.on("/other/mcp", { status: 401 });
    upstream.on(`${prm}/other/mcp`, { body: evil });
    serve("/mcp");
    await stack.reconfigure(withClient());
    await expect(begin("/other/mcp")).rejects.toThrow(/issuer_changed: only the metadata for \/other\/mcp/);
    expect(other.seen.map(({ path }) => path)).not.toContain("/token");
    expect(new URL((await begin("/mcp")).location).origin).toBe(upstream.url);
    await other.close();
  });

  test("whatever path is requested, tokens and probes stay at the host of `to`", async () => {
    serve("/mcp");
    for (const path of [
      "/@evil.test/mcp",
      "/http://evil.test",
      "/\\evil.test",
      "/..%2f..%2fevil",
      "/evil.test:1",
    ])
      expect(new URL(resourceOf((await begin(path)).location) ?? "").origin).toBe(upstream.url);
  });
});
