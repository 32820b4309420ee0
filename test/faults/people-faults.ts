import type { Fault, Scene } from "./fault.ts";
import type { Observation } from "./load.ts";

const grantRevoked: Fault = {
  name: "a grant revoked",
  short: true,
  run: (scene) => revokedWithin(scene, scene.users.at(-1)),
};

/** Revokes the user's grant under a stream of its calls, over all replicas; says when the last one was accepted. */
export async function revokedWithin(scene: Scene, userId = ""): Promise<string> {
  const grantId = scene.grants.get(userId) ?? "";
  const owned = scene.calls.filter(({ owner }) => owner.startsWith(`${userId} `));
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
  const last = Math.max(
    0,
    ...(await hammering).filter(isAccepted).map(({ startedAt }) => startedAt - revokedAt),
  );
  return `last accepted ${last} ms after`;
}

const isAccepted = ({ what }: Observation) => what === "200" || what.startsWith("let through");

export const peopleFaults: readonly Fault[] = [grantRevoked];
