import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { scraped } from "../support/scraped.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

describe("verifying an upstream token where no response reaches the sidecar", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {request_headers: {set: {x-tenant: blue}}}}}`,
    );
    await stack.connect(upstream.agree);
  });
  afterEach(async () => {
    await Promise.all([upstream.close(), stack.close()]);
  });
  const key = { userId: alice, routeId: "files" };
  const stored = () => stack.store.upstreamTokens.find({ ...key, upstream: upstream.mcp });
  const verify = () => stack.upstreamTokens.verify(alice, stack.route());
  const state = async () => (await stack.upstreamTokens.connectionState(alice, stack.route())).state;
  const withToken = () =>
    upstream.seen.filter(({ path, headers }) => path === "/mcp" && headers.authorization !== undefined);

  it("sends a ping with the token, as a call would, and keeps a token that is accepted", async () => {
    upstream.on("/mcp", { body: { jsonrpc: "2.0", id: 1, result: {} } });
    const before = await stored();
    await verify();
    expect(await stored()).toEqual(before);
    expect(withToken()).toHaveLength(1);
    const [ping] = withToken();
    expect(ping?.method).toBe("POST");
    expect(JSON.parse(ping?.body ?? "")).toMatchObject({ method: "ping" });
    expect(ping?.headers.authorization).toBe(`Bearer ${before?.accessToken}`);
    expect(ping?.headers["x-tenant"]).toBe("blue");
  });

  it("a token that is rejected is refreshed", async () => {
    const before = await stored();
    await verify();
    expect((await stored())?.version).not.toBe(before?.version);
    expect(await state()).toBe("connected");
  });

  it("a connection whose refresh token is rejected, too, is deleted: the user is asked again", async () => {
    upstream.refreshTokens.clear();
    await verify();
    expect(await stored()).toBeUndefined();
    expect(await state()).toBe("missing");
  });

  it.each([
    ["403", { status: 403 }],
    ["404", { status: 404 }],
    ["429", { status: 429 }],
    ["500", { status: 500 }],
    ["a redirect to a path that answers 401", { status: 307, headers: { location: "/elsewhere" } }],
    ["a redirect to another host", { status: 307, headers: { location: "https://elsewhere.test/mcp" } }],
  ])("%s changes nothing", async (_what, answer) => {
    upstream.on("/mcp", answer);
    upstream.on("/elsewhere", { status: 401 });
    const before = await stored();
    await verify();
    expect(await stored()).toEqual(before);
    expect(await state()).toBe("connected");
  });

  it("an upstream that is away changes nothing", async () => {
    const before = await stored();
    await upstream.close();
    await verify();
    expect(await stored()).toEqual(before);
  });

  /** The upstream answers once the returned function is called. */
  function holdAnswers(): () => void {
    let answer = () => {};
    const asked = new Promise<void>((resolve) => {
      answer = resolve;
    });
    upstream.on("/mcp", async () => {
      await asked;
      return { body: {} };
    });
    return answer;
  }

  it("at most 16 requests of a route run at a time; further ones are skipped, and counted", async () => {
    const users = Array.from({ length: 17 }, (_, index) => `company/user-${index}`);
    for (const user of users) await stack.connect(upstream.agree, user);
    const answer = holdAnswers();
    const all = users.map((user) => stack.upstreamTokens.verify(user, stack.route()));
    // The one that is skipped.
    await Promise.race(all);
    answer();
    await Promise.all(all);
    expect(withToken()).toHaveLength(16);
    expect(await scraped(stack.metrics, "limits_reached_total")).toMatchObject({
      'limit="upstream_verifications"': 1,
    });
  });

  it("concurrent verifications share one request, and none is sent without a connection", async () => {
    const answer = holdAnswers();
    const all = Promise.all(Array.from({ length: 5 }, verify));
    await expect.poll(() => withToken().length, { timeout: 60_000 }).toBe(1);
    answer();
    await all;
    expect(withToken()).toHaveLength(1);
    await stack.upstreamTokens.verify("company/bob", stack.route());
    expect(withToken()).toHaveLength(1);
  });
});
