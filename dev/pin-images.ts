import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Images are named after `image:`, after `FROM`, or as `repository` and `tag` of the chart's values. */
const files = [
  "Dockerfile",
  "deploy/compose/compose.yaml",
  "deploy/compose/everything/Dockerfile",
  "deploy/helm/envoy-mcp-auth/values.yaml",
  "deploy/kubernetes/rendered/sidecar.yaml",
] as const;
const written =
  /(?<before>^\s*image: "?|^FROM |\brepository: )(?<name>[a-z0-9][a-z0-9./_:-]*?)(?<between>:|, tag: )(?<tag>[\w][\w.-]*)(?:@sha256:[0-9a-f]{64})?(?=["\s,]|$)/gm;
/** The product's own image has no known registry. */
const own = /(^|\/)envoy-mcp-auth$/;
const accept = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");
const deadlineMs = 30_000;

/** An image as it is written: `postgres`, `ghcr.io/owner/name`, `localhost:5000/name`. */
interface Place {
  readonly registry: string;
  readonly repository: string;
}

/** Docker's rules: without a host it is Docker Hub, without an owner `library`. */
function placeOf(name: string): Place {
  const [first = "", ...rest] = name.split("/");
  if (rest.length > 0 && /[.:]|^localhost$/.test(first))
    return { registry: first, repository: rest.join("/") };
  return { registry: "registry-1.docker.io", repository: rest.length > 0 ? name : `library/${name}` };
}

/**
 * Resolves a tag to its current digest at its registry (OCI distribution specification).
 * @param origin of the registry; default: https, or http on this machine
 * @returns `sha256:...` of the index of all platforms
 * @throws Error that names the image if the registry does not return a digest
 */
export async function digestOf(name: string, tag: string): Promise<string> {
  const { registry, repository } = placeOf(name);
  const scheme = /^(localhost|127\.0\.0\.1)(:|$)/.test(registry) ? "http" : "https";
  const url = `${scheme}://${registry}/v2/${repository}/manifests/${tag}`;
  const ask = (authorization?: string) =>
    fetch(url, {
      method: "HEAD",
      headers: { accept, ...(authorization && { authorization }) },
      signal: AbortSignal.timeout(deadlineMs),
    });
  let answer = await ask();
  if (answer.status === 401)
    answer = await ask(await anonymousToken(answer.headers.get("www-authenticate") ?? "", name));
  const digest = answer.headers.get("docker-content-digest") ?? "";
  if (!answer.ok || !/^sha256:[0-9a-f]{64}$/.test(digest))
    throw new Error(`${name}:${tag}: the registry answered ${answer.status} without a digest`);
  return digest;
}

/** `Bearer ...` of the token service that the registry's challenge names, for pulling without an account. */
async function anonymousToken(challenge: string, name: string): Promise<string> {
  const parameters = new Map(
    [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]),
  );
  const realm = parameters.get("realm");
  if (!/^bearer /i.test(challenge) || realm === undefined)
    throw new Error(`${name}: the registry requires a login, which is not supported`);
  const url = new URL(realm);
  for (const key of ["service", "scope"]) {
    const value = parameters.get(key);
    if (value !== undefined) url.searchParams.set(key, value);
  }
  const answer = await fetch(url, { signal: AbortSignal.timeout(deadlineMs) });
  const body: unknown = await answer.json().catch(() => undefined);
  const token: unknown = Object(body).token ?? Object(body).access_token;
  if (!answer.ok || typeof token !== "string")
    throw new Error(`${name}: the registry's token service answered ${answer.status}`);
  return `Bearer ${token}`;
}

/**
 * The text with a digest after every image's tag, replacing old ones; the product's own image and templates are unchanged.
 * @throws Error if one cannot be resolved; then nothing is pinned
 */
export async function pinImages(text: string): Promise<string> {
  const found = [...text.matchAll(written)]
    .map(({ groups = {} }) => ({ name: groups.name ?? "", tag: groups.tag ?? "" }))
    .filter(({ name }) => !own.test(name));
  const digests = new Map<string, string>();
  for (const { name, tag } of found)
    if (!digests.has(`${name}:${tag}`)) digests.set(`${name}:${tag}`, await digestOf(name, tag));
  return text.replace(written, (whole, before: string, name: string, between: string, tag: string) => {
    const digest = digests.get(`${name}:${tag}`);
    return digest === undefined ? whole : `${before}${name}${between}${tag}@${digest}`;
  });
}

if (import.meta.main) {
  const root = join(import.meta.dirname, "..");
  try {
    // All or nothing.
    const pinned = new Map<string, string>();
    for (const file of files)
      pinned.set(join(root, file), await pinImages(readFileSync(join(root, file), "utf8")));
    for (const [file, text] of pinned) writeFileSync(file, text);
    process.stdout.write("every image is pinned; commit the change\n");
  } catch (error) {
    process.stderr.write(`nothing was changed: ${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
  }
}
