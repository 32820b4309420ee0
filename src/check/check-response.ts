/** One header of an answer to Envoy. */
export interface HeaderOption {
  readonly header: { readonly key: string; readonly value: string };
  readonly append: { readonly value: boolean };
  readonly appendAction: "APPEND_IF_EXISTS_OR_ADD" | "OVERWRITE_IF_EXISTS_OR_ADD";
}

/** `envoy.service.auth.v3.CheckResponse` with the fields of `proto/`. */
export interface CheckResponse {
  readonly status: { readonly code: number };
  readonly okResponse?: {
    readonly headers: readonly HeaderOption[];
    readonly headersToRemove: readonly string[];
    readonly responseHeadersToAdd: readonly HeaderOption[];
  };
  readonly deniedResponse?: {
    readonly status: { readonly code: number };
    readonly headers: readonly HeaderOption[];
    readonly body: string;
  };
  readonly dynamicMetadata?: {
    readonly fields: Readonly<
      Record<string, { readonly stringValue: string } | { readonly numberValue: number }>
    >;
  };
}
