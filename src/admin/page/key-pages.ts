import { rotateSigningKey } from "../../external-tokens/rotate-signing-key.ts";
import { createServiceAccounts } from "../../external-tokens/service-accounts.ts";
import { keysContent } from "../../pages/admin/keys.ts";
import { type SigningKey, signingKeyPurposes } from "../../store/signing-keys.ts";
import { AdminError } from "../access.ts";
import { type AdminPageDeps, goTo, type PageRoutes, showSection } from "./page-requests.ts";

/** Seconds between publishing a key and signing with it: verifiers may cache the key set for an hour. */
const publishSeconds = 3_600;

/** The signing keys with their states, and the encryption key in use. Private parts are never shown. */
export function addKeyPages(pages: PageRoutes, deps: AdminPageDeps): void {
  const { store, routes, keys, metadataProofs } = deps;

  pages.get("/admin/keys", "admin", async (request) => {
    const now = new Date();
    const lists = await Promise.all(
      signingKeyPurposes.map(async (purpose) => ({
        purpose,
        keys: withStates(await store.signingKeys.list(purpose), now),
      })),
    );
    const { encryption } = routes().config;
    const content = keysContent({
      purposes: lists,
      encryptionKeys: encryption.keys.map(({ kid }) => kid),
      csrf: request.actor.csrf,
      now,
    });
    showSection(request, "keys", { title: "Keys", content });
  });
  pages.post("/admin/keys/rotate", async (request) => {
    const purpose = signingKeyPurposes.find((one) => one === request.form.get("purpose"));
    if (purpose === undefined || request.form.get("confirm") !== "yes")
      throw new AdminError(400, "not_confirmed", "tick the box to rotate the key");
    // No form here has this field: a rotation that leaves the older keys valid is not what the sender wanted.
    if (request.form.has("revoke_old"))
      throw new AdminError(400, "invalid_parameter", "this page does not revoke older keys");
    const { config } = routes();
    const accounts = createServiceAccounts({ store, keys, issuer: config.issuer });
    const { name: actor } = request.actor;
    await rotateSigningKey(
      { keys, metadataProofs, accounts, config },
      { purpose, publish: publishSeconds, revokeOld: false, actor },
    );
    goTo(request, "/admin/keys", "key_rotated");
  });
}

/** @param keys newest `activeAt` first: the first active one signs */
function withStates(keys: readonly SigningKey[], now: Date) {
  const signing = keys.find(({ activeAt }) => activeAt <= now);
  return keys.map((key) => ({
    kid: key.kid,
    createdAt: key.createdAt,
    activeAt: key.activeAt,
    expiresAt: key.expiresAt,
    state:
      key.activeAt > now
        ? ("published" as const)
        : key === signing
          ? ("signing" as const)
          : ("verifying" as const),
  }));
}
