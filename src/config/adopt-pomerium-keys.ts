import { dropPomeriumKeys } from "./drop-pomerium-keys.ts";
import type { Reporter } from "./reporter.ts";

/** Pomerium's global keys that mean something here, and where they go. */
const aliases: readonly (readonly [from: string, to: readonly [string] | readonly [string, string]])[] = [
  ["authenticate_service_url", ["issuer"]],
  ["mcp_allowed_client_id_domains", ["authorization_server", "allowed_client_id_domains"]],
  ["mcp_allowed_as_metadata_domains", ["upstream_oauth", "allowed_as_metadata_domains"]],
  ["log_level", ["log", "level"]],
  ["cookie_expire", ["sign_in", "session_ttl"]],
  ["xff_num_trusted_hops", ["envoy", "xff_num_trusted_hops"]],
];

/**
 * Turns the top level of a file as Pomerium's users write it into ours: aliases are moved, the single identity provider becomes
 * `sign_in.providers[0]`, keys without effect are reported and dropped. Problems keep pointing at what is written.
 */
export function adoptPomeriumKeys(
  file: Readonly<Record<string, unknown>>,
  reporter: Reporter,
): Record<string, unknown> {
  const adopted: Record<string, unknown> = { ...file };
  for (const [from, to] of aliases) {
    if (!(from in adopted)) continue;
    const value = adopted[from];
    delete adopted[from];
    const [top, key] = to;
    const section = adopted[top];
    const taken = key === undefined ? section !== undefined : isMapping(section) && key in section;
    if (taken) {
      reporter.error([from], `${from} and ${to.join(".")} say the same`, `keep ${to.join(".")}`, "key");
      continue;
    }
    reporter.moved([from], to);
    adopted[top] = key === undefined ? value : { ...(isMapping(section) ? section : {}), [key]: value };
  }
  adoptIdentityProvider(adopted, reporter);
  return dropPomeriumKeys("global", adopted, [], reporter);
}

function adoptIdentityProvider(adopted: Record<string, unknown>, reporter: Reporter): void {
  const names = [
    "idp_provider",
    "idp_provider_url",
    "idp_client_id",
    "idp_client_secret",
    "idp_client_secret_file",
    "idp_scopes",
    "idp_request_params",
  ];
  const given = names.filter((name) => name in adopted);
  const [first] = given;
  if (first === undefined) return;
  const value = Object.fromEntries(given.map((name) => [name, adopted[name]]));
  for (const name of given) delete adopted[name];
  const signIn = adopted.sign_in;
  if (isMapping(signIn) && "providers" in signIn) {
    reporter.error(
      [first],
      "idp_* and sign_in.providers name providers twice",
      "keep sign_in.providers",
      "key",
    );
    return;
  }
  const kind = typeof value.idp_provider === "string" ? value.idp_provider : "oidc";
  const issuer = value.idp_provider_url ?? (kind === "google" ? "https://accounts.google.com" : undefined);
  if (issuer === undefined || kind === "github") {
    reporter.error(
      [first],
      `idp_provider ${kind} ${kind === "github" ? "is no OpenID provider" : "needs idp_provider_url"}`,
      "name an OpenID provider under sign_in.providers",
      "key",
    );
    return;
  }
  const secret =
    value.idp_client_secret ??
    (typeof value.idp_client_secret_file === "string" ? `file:${value.idp_client_secret_file}` : undefined);
  const at = ["sign_in", "providers", 0] as const;
  reporter.moved([value.idp_provider_url === undefined ? first : "idp_provider_url"], [...at, "issuer"]);
  reporter.moved(["idp_client_id" in value ? "idp_client_id" : first], [...at, "client_id"]);
  reporter.moved(
    ["idp_client_secret" in value ? "idp_client_secret" : "idp_client_secret_file"],
    [...at, "client_secret"],
  );
  reporter.moved(["idp_scopes"], [...at, "scopes"]);
  reporter.moved(["idp_request_params"], [...at, "authorization_url_params"]);
  reporter.moved([first], at);
  const provider = {
    id: kind,
    issuer,
    client_id: value.idp_client_id,
    ...(secret === undefined ? {} : { client_secret: secret }),
    ...(value.idp_scopes === undefined ? {} : { scopes: value.idp_scopes }),
    ...(value.idp_request_params === undefined ? {} : { authorization_url_params: value.idp_request_params }),
  };
  adopted.sign_in = { ...(isMapping(signIn) ? signIn : {}), providers: [provider] };
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
