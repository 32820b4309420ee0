import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { connected, type SharedHost, sharedHost, startSharedHost } from "./shared-host.ts";

/**
 * An upstream names an honest server as its authorization server. That server ignores `resource` (RFC 8707), so its token for a
 * person would go to whoever named it.
 */
describe("an upstream that names somebody else's authorization server", () => {
  let shared: SharedHost;
  /** The evil server's address by another name: another site than the honest one's. */
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
        // The operator says that its people may use the honest server's accounts there.
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
  /** What the evil server's metadata say for one of its routes; they are looked at once, then known for a minute. */
  function names(id: string, issuer: string): void {
    const { evil } = shared;
    evil.on(`/mcp/${id}`, { status: 401, headers: { "www-authenticate": "Bearer" } });
    evil.on(`/.well-known/oauth-protected-resource/mcp/${id}`, {
      body: { resource: evilMcp, authorization_servers: [issuer], scopes_supported: ["everything"] },
    });
  }
  const stranger = async () => shared.browser();

  it("one that is another route's is refused, and the answer names the key: even before that route's people have connected", async () => {
    const page = await shared.connect(await stranger(), "alice", "evil");
    expect(page.url.searchParams.get("connect_error_description")).toContain("authorization_server_url");
    expect(shared.honest.tokenRequests).toEqual([]);
  });

  it("whoever comes first cannot lock out the route whose own site the server is on", async () => {
    await shared.connect(await stranger(), "bob", "evil");
    const page = await shared.connect(await stranger(), "alice", "honest");
    expect(page.url.href).toBe(connected);
    const again = await shared.connect(await stranger(), "alice", "evil");
    expect(again.url.searchParams.get("connect_error")).toBe("server_error");
  });

  it("the company's sign-in provider is nobody's to name", async () => {
    names("evil-provider", shared.stack.openid.issuer);
    const page = await shared.connect(await stranger(), "alice", "evil-provider");
    expect(page.url.searchParams.get("connect_error_description")).toContain("signs people in");
  });

  it("metadata of its own that send people to the honest server's page are refused likewise", async () => {
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

  it("where the operator allows it, the person is told beforehand where the way leads", async () => {
    const alice = shared.browser((url) => url.origin === shared.honest.url);
    const query = new URLSearchParams({ route: "allowed", redirect_url: connected });
    const start = `${sharedHost}/.pomerium/mcp/connect?${query}`;
    const page = await alice.agree(await alice.open(start), shared.stack.signIn("alice"));
    expect(page.url.origin).toBe(shared.honest.url);
  });

  it("scopes above the operator's ceiling are not asked for, whatever the upstream says it supports", async () => {
    const alice = shared.browser((url) => url.origin === shared.honest.url);
    const page = await shared.connect(alice, "alice", "ceiling");
    expect(page.url.origin).toBe(shared.honest.url);
    expect(page.url.searchParams.get("scope")).toBe("read");
  });

  it("one that is nobody's yet, on another site: the page names it before the person leaves, and a no goes no further", async () => {
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
      // What has been shown is not what the upstream says a moment later.
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
