/** The store cannot work as configured; the message names the field and the fix. */
export class StoreMisconfigured extends Error {
  readonly code:
    | "encryption_key_missing"
    | "encryption_key_invalid"
    | "listen_unsupported"
    | "database_tls_invalid"
    | "embedded_database_in_use";

  constructor(code: StoreMisconfigured["code"], message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "StoreMisconfigured";
    this.code = code;
  }
}
