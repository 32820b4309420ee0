import type { Header } from "./decision.ts";

/** `envoy.service.auth.v3.CheckResponse` with the fields of `proto/`; `encode-check-response.ts` knows their numbers. */
export interface CheckResponse {
  readonly status: { readonly code: number };
  readonly okResponse?: {
    readonly headers: readonly Header[];
    readonly headersToRemove: readonly string[];
    readonly responseHeadersToAdd: readonly Header[];
  };
  readonly deniedResponse?: {
    readonly status: { readonly code: number };
    readonly headers: readonly Header[];
    readonly body: string;
  };
  readonly dynamicMetadata?: {
    readonly fields: Readonly<
      Record<string, { readonly stringValue: string } | { readonly numberValue: number }>
    >;
  };
}
