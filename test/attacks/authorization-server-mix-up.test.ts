import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { connected, type SharedHost, sharedHost, startSharedHost } from "./shared-host.ts";

/** RFC 9700 section 4.4: a person's code reaches the wrong server, and is injected into another person's connection. */
describe("mix-up of two authorization servers on one host", () => {
  let shared: SharedHost;
  beforeAll(async () => {
    shared = await startSharedHost((honest, evil) => [
      {
        id: "by-hand",
        from: `${sharedHost}/by-hand`,
        to: honest.mcp,
        mcp: { server: { upstream_oauth2: { client_id: "known", client_secret: "a-secret" } } },
      },
      { id: "found", from: `${sharedHost}/found`, to: honest.mcp, mcp: { server: {} } },
      { id: "evil", from: `${sharedHost}/evil`, to: evil.mcp, mcp: { server: {} } },
    ]);
    shared.honest.clients.add("known");
  });
  afterAll(() => shared?.close());
  beforeEach(() => {
    shared.evil.tokenRequests.length = 0;
  });

  /** Bob starts to connect a route of the honest server in his browser, and stops at its prompt. */
  async function bobsRequest(route: string) {
    const browser = shared.browser((url) => url.origin === shared.honest.url);
    const { url } = await shared.connect(browser, "bob", route);
    expect(url.origin + url.pathname).toBe(`${shared.honest.url}/authorize`);
    // The operator has registered this route's redirect URI there.
    if (route === "by-hand") shared.redirectUris.set("known", [url.searchParams.get("redirect_uri") ?? ""]);
    return { browser, request: url };
  }
  const tokensOfEvil = () => shared.evil.tokenRequests.map((form) => form.get("code"));

  it.each(["by-hand", "found"])(
    "a server redirects the browser to an honest one with another person's request: it gets no code to redeem (%s)",
    async (route) => {
      const bob = await bobsRequest(route);
      let state = "";
      shared.evil.on("/authorize", ({ query }) => {
        state = query.get("state") ?? "";
        const detour = new URL(bob.request);
        detour.searchParams.set("state", state);
        return { status: 302, headers: { location: detour.href } };
      });
      const alice = shared.browser();
      const page = await shared.connect(alice, "alice", "evil");
      expect(state).not.toBe("");
      expect(page.url.href).not.toContain(connected);
      expect(page.status).toBe(400);
      expect(page.html).toContain("state_of_other_server");
      expect(tokensOfEvil()).toEqual([]);
    },
  );

  it("nor with its own callback: the honest server has no client with that redirect URI", async () => {
    const bob = await bobsRequest("found");
    shared.evil.on("/authorize", ({ query }) => {
      const detour = new URL(bob.request);
      for (const name of ["state", "redirect_uri"]) detour.searchParams.set(name, query.get(name) ?? "");
      return { status: 302, headers: { location: detour.href } };
    });
    const page = await shared.connect(shared.browser(), "alice", "evil");
    expect(page.url.origin).toBe(shared.honest.url);
    expect(page.status).toBe(400);
    expect(tokensOfEvil()).toEqual([]);
  });

  it("an error from another server is not attributed to the requested server", async () => {
    const bob = await bobsRequest("found");
    shared.evil.on("/authorize", ({ query }) => {
      const back = new URL(bob.request.searchParams.get("redirect_uri") ?? "");
      back.search = new URLSearchParams({
        error: "access_denied",
        state: query.get("state") ?? "",
      }).toString();
      return { status: 302, headers: { location: back.href } };
    });
    const page = await shared.connect(shared.browser(), "alice", "evil");
    expect(page.html).toContain("state_of_other_server");
  });

  it("the callback without an id, which could belong to any route, is rejected on a host with several", async () => {
    shared.evil.on("/authorize", ({ query }) => {
      const back = new URL(`${sharedHost}/.pomerium/mcp/client/oauth/callback`);
      back.search = new URLSearchParams({ code: "x", state: query.get("state") ?? "" }).toString();
      return { status: 302, headers: { location: back.href } };
    });
    const page = await shared.connect(shared.browser(), "alice", "evil");
    expect(page.html).toContain("state_of_other_server");
    expect(tokensOfEvil()).toEqual([]);
    const document = await shared.stack.fetch(`${sharedHost}/.pomerium/mcp/client/metadata.json`);
    expect(document.status).toBe(404);
  });

  it("without an attack, all of them connect", async () => {
    await bobsRequest("by-hand");
    shared.evil.on("/authorize", ({ query }) => {
      const answer = shared.evil.agree(`${shared.evil.url}/authorize?${query}`);
      return { status: 302, headers: { location: `${query.get("redirect_uri")}?${answer}` } };
    });
    const alice = shared.browser();
    for (const route of ["by-hand", "found", "evil"]) {
      const page = await shared.connect(alice, "alice", route);
      expect(page.url.href, route).toBe(connected);
    }
    expect(shared.honest.tokenRequests.length).toBe(2);
  });
});
