import { html } from "ghtml";
import type { SigningKeyPurpose } from "../../store/signing-keys.ts";
import { timeInWords } from "../connections-page.ts";
import { csrfField, facts } from "./frame.ts";

interface Key {
  readonly kid: string;
  readonly createdAt: Date;
  readonly activeAt: Date;
  readonly expiresAt?: Date;
  /** `published`: will sign; `verifying`: an older key. */
  readonly state: "signing" | "published" | "verifying";
}

const words: Readonly<Record<SigningKeyPurpose, readonly [title: string, text: string]>> = {
  external_token: ["External tokens", "Sign the tokens of MCP clients and service accounts."],
  assertion: ["Identity assertions", "Sign X-Pomerium-Jwt-Assertion for upstreams."],
  upstream_client: [
    "Client authentication",
    "Authenticate the gateway at authorization servers of upstreams.",
  ],
  check_metadata: ["Check metadata", "Prove to the gateway what it has checked itself."],
  audit: ["Audit trail", "Sign the checkpoints that make it verifiable."],
};
const states = {
  signing: '<span class="tag good">Signing</span>',
  published: '<span class="tag">Published</span>',
  verifying: '<span class="tag plain">Verifying</span>',
} as const;

const kept = (purpose: SigningKeyPurpose) =>
  purpose === "audit"
    ? "Older keys still verify the checkpoints that they have signed."
    : "Older keys verify what they have signed until it has expired.";

export function keysContent(page: {
  readonly purposes: readonly { readonly purpose: SigningKeyPurpose; readonly keys: readonly Key[] }[];
  /** Ids, the newest first. */
  readonly encryptionKeys: readonly string[];
  readonly csrf: string;
  readonly now: Date;
}): string {
  const [newest, ...older] = page.encryptionKeys;
  const sections = page.purposes.map(({ purpose, keys }) => {
    const [title, text] = words[purpose];
    return html`<section aria-labelledby="${purpose}">
<h2 id="${purpose}">${title}</h2>
<p class="muted">${text}</p>
<ul class="rows flat">!${keys.map((key) => keyRow(key, page.now)).join("\n")}</ul>
<details class="danger"><summary>Rotate this key<span class="hidden"> (${title})</span></summary>
<form method="post" action="/admin/keys/rotate">!${csrfField(page.csrf)}<input type="hidden" name="purpose" value="${purpose}">
<p>The new key is published now, and signs in an hour. ${kept(purpose)}</p>
<label class="check"><input type="checkbox" name="confirm" value="yes" required> Create a new key</label>
<p class="actions"><button type="submit">Rotate<span class="hidden"> ${title}</span></button></p>
</form></details>
</section>`;
  });
  return html`<section aria-labelledby="encryption">
<h2 id="encryption">Encryption</h2>
<p>Secrets in the database are encrypted with the key <code>${newest ?? ""}</code>!${older.length > 0 ? html`; <code>${older.join(", ")}</code> can still decrypt` : ""}. <code>envoy-mcp-auth rotate-keys</code> re-encrypts with the newest.</p>
</section>
!${sections.join("\n")}`;
}

function keyRow(key: Key, now: Date): string {
  return html`<li><div class="what"><h3><span class="mono">${key.kid}</span> !${states[key.state]}</h3>
!${facts([
    ["Created", timeInWords(key.createdAt, now)],
    ["Signs", timeInWords(key.activeAt, now)],
    ["Verifies until", key.expiresAt ? timeInWords(key.expiresAt, now) : "it is rotated"],
  ])}</div></li>`;
}
