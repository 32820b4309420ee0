import type { Config } from "../config/config.ts";
import { createMetadataProofs } from "../external-tokens/metadata-proofs.ts";
import { RotationRejected, rotateSigningKey } from "../external-tokens/rotate-signing-key.ts";
import { createServiceAccounts } from "../external-tokens/service-accounts.ts";
import { createSigningKeys } from "../external-tokens/signing-keys.ts";
import { type RotationProgress, RotationUnfinished } from "../store/encryption/rotate.ts";
import { StoreUnavailable } from "../store/errors.ts";
import type { SigningKeyPurpose } from "../store/signing-keys.ts";
import type { Store } from "../store/store.ts";
import { counted } from "../util/counted.ts";
import { type CommandOptions, cliActor, withStore } from "./command.ts";
import { untilInterrupted } from "./interruption.ts";

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
    const keys = await createSigningKeys(context);
    const metadataProofs = await createMetadataProofs(context);
    try {
      const accounts = createServiceAccounts({ ...context, keys, issuer: context.config.issuer });
      const { publish, revokeOld } = options;
      const rotation = { purpose: signing, publish, revokeOld, actor: cliActor };
      const done = await rotateSigningKey({ keys, metadataProofs, accounts, ...context }, rotation);
      out(`new ${signing} key ${done.kid}, signs ${done.publish === 0 ? "now" : `in ${done.publish} s`}\n`);
      if (done.keep === undefined) return 0;
      out(
        revokeOld
          ? "older keys and everything they have signed are revoked\n"
          : signing === "audit"
            ? "older keys still verify the checkpoints that they have signed\n"
            : `older keys stay published for ${Math.ceil((done.publish + done.keep) / 3600)} h, until everything they have signed has expired\n`,
      );
      return 0;
    } catch (error) {
      if (!(error instanceof RotationRejected)) throw error;
      options.err(`${error.message}\n`);
      return 1;
    } finally {
      keys.close();
      metadataProofs.close();
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
