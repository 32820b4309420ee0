/** One header as Envoy sends it with `encode_raw_headers`. */
export interface RawHeader {
  readonly key?: string;
  readonly value?: string;
  readonly rawValue?: Buffer;
}

/** A decoded `envoy.service.auth.v3.CheckRequest`: the fields of `proto/`, absent where Envoy sent none. */
export interface CheckRequest {
  readonly attributes?: {
    readonly source?: { readonly address?: { readonly socketAddress?: { readonly address?: string } } };
    readonly request?: {
      readonly http?: {
        readonly method?: string;
        readonly headers?: Readonly<Record<string, string>>;
        readonly headerMap?: { readonly headers?: readonly RawHeader[] };
        readonly path?: string;
        readonly host?: string;
        readonly rawBody?: Buffer;
      };
    };
    readonly contextExtensions?: Readonly<Record<string, string>>;
  };
}
