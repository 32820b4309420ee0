import { readFileSync } from "node:fs";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { boundedCache } from "../util/bounded-cache.ts";

/** By PEM file: Node's CAs and those of the file. Undefined if the file cannot be read, since it may exist for Envoy only. */
export type TrustedAuthorities = (caFile: string) => SecureContext | undefined;

/** Each file is read once: a context takes tens of milliseconds, and megabytes. */
export function createTrustedAuthorities(): TrustedAuthorities {
  const contexts = boundedCache<string, SecureContext>(100);
  return (caFile) => {
    const known = contexts.get(caFile);
    if (known) return known;
    try {
      const ca = [...getCACertificates("default"), readFileSync(caFile, "utf8")];
      const context = createSecureContext({ ca });
      contexts.set(caFile, context);
      return context;
    } catch {
      return undefined;
    }
  };
}

/** The CA bundle of Linux distributions; default of `envoy.upstream_ca`. */
export const systemAuthorities = "/etc/ssl/certs/ca-certificates.crt";
