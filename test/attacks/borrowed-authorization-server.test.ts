import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { connected, type SharedHost, sharedHost, startSharedHost } from "./shared-host.ts";

/**
 * An upstream names an honest server as its authorization server. That server ignores `resource` (RFC 8707), so its token for a
 * person would go to the upstream.
 */
describe("an upstream that names another party's authorization server", () => {
  let shared: SharedHost;
  /** Another host name of the evil server, on a different site than the honest one. */
  let evilMcp: string;
  beforeAll(async () => {
    shared = await startSharedHost((honest, evil) => {
      evilMcp = evil.mcp.replace("127.0.0.1", "localhost");
      return [
        ...["evil", "evil-provider", "evil-page", "evil-third"].map((id) => ({
          id,
          from: `${sharedHost}/${id}`,
          to: `${evilMcp}/${id}`,
          mcp: { server: {} },
        })),
        { id: "honest", from: `${sharedHost}/honest`, to: honest.mcp, mcp: { server: {} } },
        {
          id: "ceiling",
          from: `${sharedHost}/ceiling`,
          to: honest.mcp,
          mcp: { server: { upstream_oauth2: { max_scopes: ["read"] } } },
        },
        // The operator allows people to use the honest server's accounts there.
        {
          id: "allowed",
          from: `${sharedHost}/allowed`,
          to: `${evilMcp}/allowed`,
          mcp: { server: { authorization_server_url: honest.url } },
        },
      ];
    });
  });
  afterAll(() => shared?.close());
  beforeEach(() => {
    shared.honest.tokenRequests.length = 0;
    for (const id of ["evil", "allowed"]) names(id, shared.honest.url);
  });
  /** The evil server's metadata for one of its routes; it is fetched once, then cached for a minute. */
  function names(id: string, issuer: string): void {
    const { evil } = shared;
    evil.on(`/mcp/${id}`, { status: 401, headers: { "www-authenticate": "Bearer" } });
    evil.on(`/.well-known/oauth-protected-resource/mcp/${id}`, {
      body: { resource: evilMcp, authorization_servers: [issuer], scopes_supported: ["everything"] },
    });
  }
  const stranger = async () => shared.browser();

  it("one that belongs to another route is rejected, and the error names the key: even before anyone has connected there", async () => {
    const page = await shared.connect(await stranger(), "alice", "evil");
    expect(page.url.searchParams.get("connect_error_description")).toContain("authorization_server_url");
    expect(shared.honest.tokenRequests).toEqual([]);
  });

  it("the first route cannot lock out the route on the server's own site", async () => {
    await shared.connect(await stranger(), "bob", "evil");
    const page = await shared.connect(await stranger(), "alice", "honest");
    expect(page.url.href).toBe(connected);
    const again = await shared.connect(await stranger(), "alice", "evil");
    expect(again.url.searchParams.get("connect_error")).toBe("server_error");
  });

  it("no upstream may name the company's sign-in provider", async () => {
    names("evil-provider", shared.stack.openid.issuer);
    const page = await shared.connect(await stranger(), "alice", "evil-provider");
    expect(page.url.searchParams.get("connect_error_description")).toContain("signs people in");
  });

  it("its own metadata with the honest server's authorization endpoint is rejected, too", async () => {
    const { evil, honest } = shared;
    const issuer = evil.url.replace("127.0.0.1", "localhost");
    names("evil-page", issuer);
    const honestPage = `${honest.url}/authorize`;
    const metadata = { ...evil.metadata, issuer, authorization_endpoint: honestPage };
    evil.on("/.well-known/oauth-authorization-server", { body: metadata });
    const page = await shared.connect(await stranger(), "alice", "evil-page");
    expect(page.url.searchParams.get("connect_error_description")).toContain("already serves another route");
    expect(evil.registered).toEqual([]);
  });

  it("if the operator allows it, the person sees the destination beforehand", async () => {
    const alice = shared.browser((url) => url.origin === shared.honest.url);
    const query = new URLSearchParams({ route: "allowed", redirect_url: connected });
    const start = `${sharedHost}/.pomerium/mcp/connect?${query}`;
    const page = await alice.agree(await alice.open(start), shared.stack.signIn("alice"));
    expect(page.url.origin).toBe(shared.honest.url);
  });

  it("scopes above the operator's limit are not requested, whatever the upstream advertises", async () => {
    const alice = shared.browser((url) => url.origin === shared.honest.url);
    const page = await shared.connect(alice, "alice", "ceiling");
    expect(page.url.origin).toBe(shared.honest.url);
    expect(page.url.searchParams.get("scope")).toBe("read");
  });

  it("an unused one on another site: the page names it before the person leaves, and declining ends the flow", async () => {
    const third = await scriptedUpstream();
    try {
      names("evil-third", third.url);
      const alice = shared.browser((url) => url.origin === third.url);
      await shared.connect(alice, "alice", "honest");
      const query = new URLSearchParams({ route: "evil-third", redirect_url: connected });
      const page = await alice.open(`${sharedHost}/.pomerium/mcp/connect?${query}`);
      expect(page.url.pathname).toBe("/.pomerium/mcp/connect/confirm");
      expect(page.html).toContain(third.host);
      expect(page.html).toContain("everything");
      const no = await alice.submit(page, {}, "decision=deny");
      expect(no.url.searchParams.get("connect_error")).toBe("access_denied");
      expect(third.registered).toEqual([]);
      // The upstream changes its metadata after the page was shown.
      const shown = await alice.open(`${sharedHost}/.pomerium/mcp/connect?${query}`);
      const other = await alice.submit(shown, { server: "known.test" }, "decision=allow");
      expect(other.url.pathname).toBe("/.pomerium/mcp/connect/confirm");
      const forged = await alice.submit(shown, { csrf: "x" }, "decision=allow");
      expect(forged.status).toBe(403);
      const yes = await alice.submit(shown, {}, "decision=allow");
      expect(yes.url.origin).toBe(third.url);
    } finally {
      await third.close();
    }
  });
});
