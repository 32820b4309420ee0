/** What we read of an `envoy.service.auth.v3.CheckRequest`; strings byte by byte as they came, so that nothing is replaced. */
export interface CheckRequest {
  /** Absent: the check is about no HTTP request. */
  readonly http?: {
    /** Empty where Envoy sent none. */
    readonly method: string;
    readonly path: string;
    readonly host: string;
    /** Name, value, name, value: as they came, pseudo-headers among them. */
    readonly headers: readonly string[];
    readonly rawBody?: Buffer;
  };
  readonly sourceIp?: string;
  readonly contextExtensions: Readonly<Record<string, string>>;
}
