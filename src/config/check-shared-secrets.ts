import type { Reporter } from "./reporter.ts";
import type { ConfigPath } from "./source.ts";

/** One reference to a secret, and whose it is there. */
interface Use {
  readonly reference: string;
  readonly path: ConfigPath;
  readonly owner: string;
}
type Mapping = Readonly<Record<string, unknown>>;

/**
 * Warns of a secret (an environment variable or a file) that stands in two places that have nothing to do with each other: who
 * receives it in one place can use it in the other. The same client or the same upstream twice is one place.
 *
 * @param file the routes file as written, references not resolved.
 */
export function checkSharedSecrets(file: Mapping, reporter: Pick<Reporter, "warn">): void {
  const first = new Map<string, Use>();
  for (const use of [...ownUses(file), ...usesIn(file, [], "")]) {
    const other = first.get(use.reference);
    if (other === undefined) first.set(use.reference, use);
    else if (other.owner !== use.owner)
      reporter.warn(
        use.path,
        `${use.reference} is the secret of ${other.owner}, too: whoever receives it here can use it there`,
        `give ${use.owner} a secret of its own`,
      );
  }
}

/** Secrets of the gateway itself. */
function ownUses(file: Mapping): Use[] {
  const keys = list(mapping(file.encryption).keys);
  const encryption = (keys.length === 0 ? [{ env: "ENCRYPTION_KEY" }] : keys).flatMap((key, index) => {
    const { env, file: path } = mapping(key);
    const reference = typeof env === "string" ? env : typeof path === "string" ? `file:${path}` : undefined;
    const at = ["encryption", "keys", index];
    return reference === undefined ? [] : [{ reference, path: at, owner: "the database's encryption" }];
  });
  const { admin_tokens, viewer_tokens } = mapping(file.admin_api);
  const admin = [
    ...uses(admin_tokens, ["admin_api", "admin_tokens"], "the admin API"),
    ...uses(viewer_tokens, ["admin_api", "viewer_tokens"], "the admin API's viewers"),
  ];
  return [...encryption, ...admin, ...uses(file.database, ["database"], "the database")];
}

/** OAuth clients' secrets, and static credentials of upstreams, wherever they stand. */
function usesIn(value: unknown, path: ConfigPath, upstream: string): Use[] {
  if (Array.isArray(value)) return value.flatMap((item, index) => usesIn(item, [...path, index], upstream));
  if (!isMapping(value)) return [];
  const to = [value.to].flat().find((url) => typeof url === "string");
  const host = (to && URL.parse(to)?.host) || upstream;
  return Object.entries(value).flatMap(([key, inner]) => {
    const at = [...path, key];
    switch (key) {
      case "client_secret":
      case "private_key":
        return uses(inner, at, `the OAuth client ${value.client_id}`);
      case "idp_client_secret":
        return uses(inner, at, `the OAuth client ${value.idp_client_id}`);
      case "api_key":
        return uses(mapping(inner).value, [...at, "value"], `the upstream ${host}`);
      case "headers":
        return uses(inner, at, `the upstream ${host}`);
      default:
        return usesIn(inner, at, host);
    }
  });
}

/** The references in a value, or in the values of a list or mapping. */
function uses(value: unknown, path: ConfigPath, owner: string): Use[] {
  if (typeof value === "string") {
    const names = value.startsWith("file:")
      ? [value]
      : [...value.matchAll(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g)].map(([, name]) => name ?? "");
    return names.map((reference) => ({ reference, path, owner }));
  }
  if (Array.isArray(value)) return value.flatMap((item, index) => uses(item, [...path, index], owner));
  return isMapping(value)
    ? Object.entries(value).flatMap(([key, item]) => uses(item, [...path, key], owner))
    : [];
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
function mapping(value: unknown): Mapping {
  return isMapping(value) ? value : {};
}
function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
