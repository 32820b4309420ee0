import type { Config } from "../config/config.ts";
import type { SigningKeyPurpose } from "../store/signing-keys.ts";
import type { MetadataProofs } from "./metadata-proofs.ts";
import type { ServiceAccounts } from "./service-accounts.ts";
import type { SigningKeyRing, SigningPurpose } from "./signing-keys.ts";

/** How long upstreams' authorization servers may cache our JWKS, seconds. */
const upstreamClientKeepSeconds = 86_400;
/** Identity assertions are valid for five minutes; servers may cache the JWKS for up to an hour. */
const assertionKeepSeconds = 3_600;
/** Checkpoints are verified for as long as somebody keeps them: a hundred years. */
const auditKeepSeconds = 100 * 365 * 86_400;
/** Tokens of browser sessions are valid for at most an hour. */
const sessionTokensSeconds = 3_600;

/** `message` is for operators. */
export class RotationRejected extends Error {}

export interface RotationDeps {
  readonly keys: Pick<SigningKeyRing, "rotate">;
  readonly metadataProofs: Pick<MetadataProofs, "rotate">;
  readonly accounts: Pick<ServiceAccounts, "list">;
  readonly config: Pick<Config, "externalTokens">;
}

/**
 * Creates a signing key. The older ones still verify what they have signed, until the longest-lived of it has expired.
 * @param rotation.publish seconds between publishing the new key and signing with it
 * @param rotation.revokeOld revokes the older keys immediately, and everything they have signed
 * @throws RotationRejected the older keys of this purpose must not be revoked
 * @returns the key's id, and the seconds for which older keys stay; undefined: as long as a request may wait for its upstream
 */
export async function rotateSigningKey(
  { keys, metadataProofs, accounts, config }: RotationDeps,
  rotation: {
    readonly purpose: SigningKeyPurpose;
    readonly publish: number;
    readonly revokeOld: boolean;
    readonly actor: string;
  },
): Promise<{ readonly kid: string; readonly publish: number; readonly keep: number | undefined }> {
  const { purpose, revokeOld, actor } = rotation;
  if (purpose === "audit" && revokeOld)
    throw new RotationRejected(
      "--revoke-old would make the audit trail unverifiable: rotate the key without it",
    );
  const publish = revokeOld ? 0 : rotation.publish;
  if (purpose === "check_metadata")
    return { kid: await metadataProofs.rotate(publish, revokeOld, actor), publish, keep: undefined };
  const keep = revokeOld ? 0 : await keepSeconds(purpose, config, accounts);
  return { kid: await keys.rotate(purpose, publish, keep, actor), publish, keep };
}

/** The longest lifetime of anything that the older keys have signed. */
async function keepSeconds(
  purpose: SigningPurpose,
  { externalTokens: { ttl, leeway } }: RotationDeps["config"],
  accounts: RotationDeps["accounts"],
): Promise<number> {
  if (purpose === "audit") return auditKeepSeconds;
  if (purpose === "assertion") return assertionKeepSeconds;
  if (purpose === "upstream_client") return upstreamClientKeepSeconds;
  let longest = Math.max(ttl, sessionTokensSeconds);
  for await (const page of accounts.list())
    for (const { expiresAt } of page) longest = Math.max(longest, (expiresAt.getTime() - Date.now()) / 1000);
  return Math.ceil(longest) + leeway;
}
