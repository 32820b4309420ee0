import type { Config } from "../config/config.ts";
import { createMetadataProofs } from "../external-tokens/metadata-proofs.ts";
import { createServiceAccounts, type ServiceAccounts } from "../external-tokens/service-accounts.ts";
import { createSigningKeys, type SigningPurpose } from "../external-tokens/signing-keys.ts";
import { type RotationProgress, RotationUnfinished } from "../store/encryption/rotate.ts";
import { StoreUnavailable } from "../store/errors.ts";
import type { SigningKeyPurpose } from "../store/signing-keys.ts";
import type { Store } from "../store/store.ts";
import { counted } from "../util/counted.ts";
import { type CommandOptions, cliActor, withStore } from "./command.ts";
import { untilInterrupted } from "./interruption.ts";

/** How long upstreams' authorization servers may cache our JWKS, seconds. */
const upstreamClientKeepSeconds = 86_400;
/** Identity assertions are valid for five minutes; servers may cache the JWKS for up to an hour. */
const assertionKeepSeconds = 3_600;
/** Checkpoints are verified for as long as somebody keeps them: a hundred years. */
const auditKeepSeconds = 100 * 365 * 86_400;
/** Tokens of browser sessions are valid for at most an hour. */
const sessionTokensSeconds = 3_600;

/**
 * The commands `rotate-keys`, which re-encrypts stored secrets with the first key, and `rotate-signing-key` (`signing`), which creates
 * a signing key.
 * @param options.signing purpose of the key to create
 * @param options.publish seconds between publishing a new signing key and signing with it
 * @param options.revokeOld revokes the older signing keys immediately, and everything they have signed
 * @returns the exit code.
 */
export function runRotateKeys(
  options: CommandOptions & {
    readonly signing?: SigningKeyPurpose;
    readonly publish: number;
    readonly revokeOld: boolean;
  },
): Promise<number> {
  const { signing, out } = options;
  return withStore(options, async (context) => {
    if (signing === undefined) {
      return rotateEncryptionKeys(context, options);
    }
    if (signing === "check_metadata") return rotateMetadataKey(context, options);
    if (signing === "audit" && options.revokeOld) {
      options.err("--revoke-old would make the audit trail unverifiable: rotate the key without it\n");
      return 1;
    }
    const keys = await createSigningKeys(context);
    try {
      const publish = options.revokeOld ? 0 : options.publish;
      const accounts = createServiceAccounts({ ...context, keys, issuer: context.config.issuer });
      const keep = options.revokeOld ? 0 : await keepSeconds(signing, context.config, accounts);
      const kid = await keys.rotate(signing, publish, keep, cliActor);
      out(`new ${signing} key ${kid}, signs ${publish === 0 ? "now" : `in ${publish} s`}\n`);
      out(
        options.revokeOld
          ? "older keys and everything they have signed are revoked\n"
          : signing === "audit"
            ? "older keys still verify the checkpoints that they have signed\n"
            : `older keys stay published for ${Math.ceil((publish + keep) / 3600)} h, until everything they have signed has expired\n`,
      );
      return 0;
    } finally {
      keys.close();
    }
  });
}

/** How often progress is printed, ms. */
const progressEveryMs = 5_000;

async function rotateEncryptionKeys(
  { store, config }: { readonly store: Pick<Store, "rotateEncryptionKeys">; readonly config: Config },
  { out, err }: Pick<CommandOptions, "out" | "err">,
): Promise<number> {
  const [first = "", ...others] = config.encryption.keys.map(({ kid }) => kid);
  const printed = (rewritten: Readonly<Record<string, number>>) => {
    const rows = Object.values(rewritten).reduce((sum, count) => sum + count, 0);
    out(`${counted(rows, "row")} re-encrypted with ${first}, the first key of encryption.keys
`);
    for (const [table, count] of Object.entries(rewritten)) if (count > 0) out(`  ${table}: ${count}\n`);
  };
  try {
    printed(
      await untilInterrupted((signal) =>
        store.rotateEncryptionKeys({ signal, onProgress: progressPrinter(err), actor: cliActor }),
      ),
    );
  } catch (error) {
    if (error instanceof StoreUnavailable) {
      err(
        `${error.message}; run rotate-keys again to continue, and keep the older keys until it has finished\n`,
      );
      return 1;
    }
    if (!(error instanceof RotationUnfinished)) throw error;
    if (error.code !== "running") printed(error.rewritten);
    err(`${error.message}; keep the older keys until rotate-keys has finished\n`);
    return 1;
  }
  if (others.length > 0)
    out(
      `no row needs the other keys (${others.join(", ")}): remove them after every replica has ${first} first in encryption.keys. ` +
        "To rotate to one of them instead, list it first on every replica and run rotate-keys again\n",
    );
  return 0;
}

/** Prints rows, speed and an estimate of the time left, every few seconds. */
function progressPrinter(err: (text: string) => void): (progress: RotationProgress) => void {
  let [step, beganAt, printedAt] = ["", 0, performance.now()];
  return (progress) => {
    const now = performance.now();
    if (progress.step !== step) [step, beganAt] = [progress.step, now];
    const seconds = (now - beganAt) / 1_000;
    if (now - printedAt < progressEveryMs || seconds === 0) return;
    printedAt = now;
    const perSecond = progress.rows / seconds;
    const left = progress.left === undefined ? "" : `, about ${duration(progress.left / perSecond)} left`;
    err(
      `${progress.step} ${progress.table}: ${counted(progress.rows, "row")}, ${Math.round(perSecond)} rows/s${left}\n`,
    );
  };
}

const duration = (seconds: number) =>
  seconds < 90
    ? `${Math.ceil(seconds)} s`
    : seconds < 5_400
      ? `${Math.ceil(seconds / 60)} min`
      : `${(seconds / 3_600).toFixed(1)} h`;

/** Older keys are kept for the longest time that a request may wait for its upstream. */
async function rotateMetadataKey(
  context: Parameters<typeof createMetadataProofs>[0],
  { publish, revokeOld, out }: { publish: number; revokeOld: boolean; out: (text: string) => void },
): Promise<number> {
  const proofs = await createMetadataProofs(context);
  try {
    const kid = await proofs.rotate(revokeOld ? 0 : publish, revokeOld, cliActor);
    out(`new check_metadata key ${kid}, signs ${revokeOld || publish === 0 ? "now" : `in ${publish} s`}\n`);
    return 0;
  } finally {
    proofs.close();
  }
}

/** The longest lifetime of anything that the older keys have signed. */
async function keepSeconds(
  purpose: SigningPurpose,
  { externalTokens: { ttl, leeway } }: Config,
  accounts: Pick<ServiceAccounts, "list">,
): Promise<number> {
  if (purpose === "audit") return auditKeepSeconds;
  if (purpose === "assertion") return assertionKeepSeconds;
  if (purpose === "upstream_client") return upstreamClientKeepSeconds;
  let longest = Math.max(ttl, sessionTokensSeconds);
  for await (const page of accounts.list())
    for (const { expiresAt } of page) longest = Math.max(longest, (expiresAt.getTime() - Date.now()) / 1000);
  return Math.ceil(longest) + leeway;
}
