import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { TokenCaller } from "../../src/upstream-tokens/upstream-tokens.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

const person = (name: string): TokenCaller => ({ userId: `company/${name}`, kind: "person" });

/** An upstream that accepts requests for its authorization metadata and does not respond, or fails. */
describe("an upstream that never returns its authorization metadata", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  const asked = () => upstream.paths().filter((path) => path !== "/other").length;
  beforeAll(async () => {
    upstream = await scriptedUpstream();
    for (const path of ["/mcp", "/.well-known/oauth-protected-resource/mcp"])
      upstream.on(path, () => undefined);
    for (const name of ["oauth-protected-resource", "oauth-authorization-server", "openid-configuration"])
      upstream.on(`/.well-known/${name}`, () => undefined);
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}`,
      { settings: "upstream_oauth: {allowed_private_hosts: [127.0.0.1], timeout: 1s}" },
    );
  });
  // Keeps the cache entry from expiring on a slow machine.
  beforeAll(() => void vi.useFakeTimers({ toFake: ["Date"] }));
  afterAll(async () => {
    vi.useRealTimers();
    await Promise.all([stack?.close(), upstream.close()]);
  });

  it("is asked once for all callers, and the result is cached briefly: no other caller waits, and requests do not pile up", async () => {
    const all = await Promise.all(
      Array.from({ length: 50 }, (_, index) => stack.upstreamTokens.find(person(`p${index}`), stack.route())),
    );
    expect(all.every(({ kind }) => kind === "unavailable")).toBe(true);
    const before = asked();
    // The probe, and at most three metadata URLs.
    expect(before).toBeLessThanOrEqual(4);
    const lines = stack.log.length;
    expect(await stack.upstreamTokens.find(person("late"), stack.route())).toMatchObject({
      kind: "unavailable",
    });
    expect(asked()).toBe(before);
    expect(stack.log.slice(lines).filter((line) => line.includes('"reason":"unreachable"'))).toEqual([]);
  });

  it("is asked once for all people who connect", async () => {
    const begin = (name: string) =>
      stack.upstreamOAuth.begin({
        userId: `company/${name}`,
        route: stack.route(),
        returnTo: "https://mcp.test/",
      });
    const first = await Promise.all(Array.from({ length: 20 }, (_, index) => begin(`p${index}`)));
    expect(first.every((one) => !one.ok && one.code === "unreachable")).toBe(true);
    const before = asked();
    expect(await begin("late")).toMatchObject({ ok: false, code: "unreachable" });
    expect(asked()).toBe(before);
  });

  it("is asked again afterwards", async () => {
    const before = asked();
    vi.setSystemTime(Date.now() + 5_001);
    expect(await stack.upstreamTokens.find(person("later"), stack.route())).toMatchObject({
      kind: "unavailable",
    });
    expect(asked()).toBeGreaterThan(before);
  });
});
