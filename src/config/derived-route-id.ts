import { createHash } from "node:crypto";

/** Readable, and different for every `from`: the slug alone could coincide (`/a-b` and `/a/b`). */
export function derivedRouteId(resource: string): string {
  const slug = resource
    .replace(/^https?:\/\//, "")
    .replace(/[^A-Za-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
  return `${slug.slice(0, 80)}-${createHash("sha256").update(resource).digest("hex").slice(0, 8)}`;
}
