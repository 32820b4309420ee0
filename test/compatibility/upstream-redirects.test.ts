import { afterAll, beforeAll, expect, it } from "vitest";
import type { DiscoveryStep } from "../../src/upstream-oauth/upstream-oauth.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

let upstream: ScriptedUpstream;
let stack: OAuthClientStack;
beforeAll(async () => {
  upstream = await scriptedUpstream();
  stack = await startOAuthClient(
    `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}\n` +
      `  - {id: open, from: https://open.test, to: ${upstream.mcp}, mcp: {server: {upstream_auth: none}}}`,
  );
});
afterAll(() => Promise.all([upstream.close(), stack.close()]));

async function doctor(id: string) {
  const steps: DiscoveryStep[] = [];
  const outcome = await stack.upstreamOAuth.discover(stack.route(id), (step) => steps.push(step));
  return { outcome, found: steps.map(({ finding }) => finding).join("\n") };
}

it.each(["files", "open"])(
  "a redirect of an upstream within its host is followed, and doctor reports it: %s",
  async (id) => {
    const wrongScheme = `${upstream.mcp.replace("http:", "https:")}/`;
    for (const location of [
      `${upstream.mcp}/`,
      wrongScheme,
      "/mcp/",
      "mcp/",
      "https://mcp.test/mcp/",
      "https://open.test/mcp/",
    ]) {
      if (location.includes(".test") && !location.includes(stack.route(id).host)) continue;
      for (const status of [301, 302, 303, 307, 308]) {
        upstream.on("/mcp", { status, headers: { location } });
        upstream.on(
          "/mcp/",
          id === "open"
            ? { status: 200, body: {} }
            : { status: 401, headers: { "www-authenticate": "Bearer" } },
        );
        const { outcome, found } = await doctor(id);
        expect(outcome).toMatchObject({ ok: true });
        expect(found).toContain(`redirects to ${upstream.mcp}/`);
      }
    }
  },
);

it.each([
  ["elsewhere", "https://elsewhere.example/mcp"],
  ["to another port", "http://127.0.0.1:1/mcp"],
  ["in a circle", "/mcp"],
])("one that redirects %s fails, and doctor names `to`", async (_case, location) => {
  for (const id of ["files", "open"]) {
    upstream.on("/mcp", { status: 307, headers: { location } });
    const { found } = await doctor(id);
    expect(found).toMatch(/redirects .*set `to` to the URL that answers without a redirect/);
  }
});
