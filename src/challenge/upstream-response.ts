import type { ProcessingRequest } from "./external-processor.ts";

/** What an upstream answered to a request that `check/` let through, and whose credential it carried. */
export interface UpstreamResponse {
  readonly status: number;
  /** Every `WWW-Authenticate` value as received: several headers, each possibly with several challenges. */
  readonly wwwAuthenticate: readonly string[];
  /** RFC 9449 section 8.2. */
  readonly dpopNonce?: string;
  readonly requestId?: string;
  /** What `check/` left with the request (`Allow.metadata`): ids and versions. */
  readonly metadata: Readonly<Record<string, string | number>>;
}

/** The namespace under which Envoy keeps what ext_authz answered. */
const namespace = "envoy.filters.http.ext_authz";

/**
 * Reads a response-headers message. Undefined when the response is none of ours: without our metadata nobody
 * was let through by `check/`, so it is a local reply (ours or Envoy's) or another filter chain's traffic.
 */
export function upstreamResponse(message: ProcessingRequest): UpstreamResponse | undefined {
  const fields = message.metadataContext?.filterMetadata?.[namespace]?.fields;
  if (!fields?.route?.stringValue) return undefined;
  const metadata: Record<string, string | number> = {};
  for (const [name, value] of Object.entries(fields)) {
    const known = value?.stringValue ?? value?.numberValue;
    if (known !== undefined) metadata[name] = known;
  }
  let status = 0;
  let dpopNonce: string | undefined;
  let requestId: string | undefined;
  const wwwAuthenticate: string[] = [];
  for (const { key, value, rawValue } of message.responseHeaders?.headers?.headers ?? []) {
    // Envoy sends raw bytes; older ones and other proxies a string.
    const text = rawValue?.length ? rawValue.toString("latin1") : (value ?? "");
    if (key === ":status") status = Number(text);
    else if (key === "www-authenticate") wwwAuthenticate.push(text);
    else if (key === "dpop-nonce") dpopNonce = text;
    else if (key === "x-request-id") requestId = text;
  }
  return { status, wwwAuthenticate, dpopNonce, requestId, metadata };
}
