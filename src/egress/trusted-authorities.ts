import { readFileSync } from "node:fs";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { boundedCache } from "../util/bounded-cache.ts";

/** By PEM file: the authorities that Node trusts and those of the file. Nothing if it cannot be read: it is Envoy's in the first place. */
export type TrustedAuthorities = (caFile: string) => SecureContext | undefined;

/** Each file is read once: making a context of it takes tens of milliseconds, and megabytes. */
export function createTrustedAuthorities(): TrustedAuthorities {
  const contexts = boundedCache<string, SecureContext>(100);
  return (caFile) => {
    const known = contexts.get(caFile);
    if (known) return known;
    try {
      const ca = [...getCACertificates("default"), readFileSync(caFile, "utf8")];
      const made = createSecureContext({ ca });
      contexts.set(caFile, made);
      return made;
    } catch {
      return undefined;
    }
  };
}

/** Where Linux distributions keep the certification authorities that everybody trusts: `envoy.upstream_ca`, if nothing is said. */
export const systemAuthorities = "/etc/ssl/certs/ca-certificates.crt";
