import { setTimeout as delay } from "node:timers/promises";
import { decodeJwt } from "jose";
import { mcpClient } from "../../../dev/demo/mcp-client.ts";
import { httpBrowser } from "../../support/http-browser.ts";
import type { Fault, Scene } from "./fault.ts";
import type { Call, Observation } from "./load.ts";
import { issuer, resourceOf } from "./world-config.ts";

const grantRevoked: Fault = {
  name: "a grant revoked",
  short: true,
  run: (scene) => revokedWithin(scene, scene.users.at(-1)),
};

/** Revokes the user's grant during a stream of its calls over all replicas; reports when the last one was accepted. */
export async function revokedWithin(scene: Scene, userId = ""): Promise<string> {
  const grantId = scene.grants.get(userId) ?? "";
  const owned = scene.calls.filter(({ owner }) => owner?.startsWith(`${userId} `));
  let revokedAt = Number.POSITIVE_INFINITY;
  const refused = (startedAt: number) => startedAt > revokedAt + 1_000;
  const watched = owned.map((call) => ({ ...call, refused }));
  scene.calls = scene.calls.filter((call) => !owned.includes(call));
  const hammering = scene.hammer(watched, 60, 4_000);
  await scene.store.authorizationServerRecords.revokeGrant(grantId, {
    action: "grant.revoked",
    userId,
    grantId,
    reason: "fault suite",
  });
  revokedAt = Date.now();
  return lastAccepted(await hammering, revokedAt);
}

/** A person with a complete flow (sign-in, consent, tokens), whom the company's provider then no longer knows. */
const dismissed: Fault = {
  name: "a person dismissed at the company's provider",
  async run(scene) {
    const browser = httpBrowser({ fetch: scene.fetch });
    const client = await mcpClient({
      url: resourceOf("open"),
      fetch: scene.fetch,
      browse: async (location) =>
        browser.agree(await browser.open(location), () => ({ login: "bob", password: "builder" })),
    });
    // The server behind the route does not support MCP: only authorization is needed.
    const connecting = client.connect().catch(() => {});
    for (const until = Date.now() + 60_000; !client.tokens() && Date.now() < until; ) await delay(50);
    const tokens = client.tokens();
    await client.close();
    void connecting;
    if (!tokens?.refresh_token) throw new Error("the authorization returned no tokens");
    let goneAt = Number.POSITIVE_INFINITY;
    const call: Call = {
      url: resourceOf("open"),
      token: tokens.access_token,
      owner: undefined,
      refused: (startedAt) => startedAt > goneAt + 1_000,
    };
    const hammering = scene.hammer([call], 30, 6_000);
    // `sign_in.recheck`, after which the next refresh of the client asks the provider.
    await delay(1_500);
    scene.openid.dismiss("bob");
    const answer = await scene.fetch(`${issuer}/oauth/token`, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({
        grant_type: "refresh_token",
        refresh_token: tokens.refresh_token,
        client_id: String(decodeJwt(tokens.access_token).client_id),
        resource: resourceOf("open"),
      }),
    });
    goneAt = Date.now();
    const { error } = await answer.json();
    return `the refresh: ${answer.status} ${error}; ${lastAccepted(await hammering, goneAt)}`;
  },
};

/** How long after `since` the last allowed call was started. */
function lastAccepted(seen: readonly Observation[], since: number): string {
  const late = seen
    .filter(({ what }) => what === "200" || what.startsWith("allowed although"))
    .map(({ startedAt }) => startedAt - since);
  return `last accepted ${Math.max(0, ...late)} ms after`;
}

export const peopleFaults: readonly Fault[] = [grantRevoked, dismissed];
