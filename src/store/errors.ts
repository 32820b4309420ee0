/** The database did not answer in time. The caller must fail closed, and may try again. */
export class StoreUnavailable extends Error {
  readonly code = "store_unavailable";

  /** @param advice for an operator at startup */
  constructor(operation: string, cause: unknown, advice = "") {
    super(`the store did not answer (${operation})${advice}`, { cause });
    this.name = "StoreUnavailable";
  }
}

/** The store cannot work as configured; the message names the field and the fix. */
export class StoreMisconfigured extends Error {
  readonly code:
    | "encryption_key_missing"
    | "encryption_key_invalid"
    | "listen_unsupported"
    | "database_tls_invalid"
    | "embedded_database_in_use"
    | "database_dir_unusable"
    | "database_rights_missing"
    | "database_not_emptied";

  constructor(code: StoreMisconfigured["code"], message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "StoreMisconfigured";
    this.code = code;
  }
}

/** A stored ciphertext that must not be used: moved from another row, damaged, or encrypted with an unknown key. */
export class DecryptionFailed extends Error {
  readonly code: "ciphertext_moved" | "ciphertext_damaged" | "encryption_key_unknown";

  /** @param advice for an operator */
  constructor(code: DecryptionFailed["code"], table: string, cause?: unknown, advice = "") {
    super(`cannot decrypt a row of ${table}: ${code}${advice}`, { cause });
    this.name = "DecryptionFailed";
    this.code = code;
  }
}

/** SQLSTATE classes that do not depend on the statement: connection, login, resources, operator, internal; read-only after a failover. */
const unavailable = /^(08|28|3D|53|57|58|XX|25006|40001|40P01|55P03|25P0[34])/;
const socket =
  /^(ECONN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|ENOENT|EACCES|ENOSPC|EIO)/;
/** The server's certificate could not be verified. */
const tls = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|^ERR_(TLS|SSL)/;
const driver =
  /Connection (terminated|ended)|connection timeout|timeout exceeded when trying to connect|not queryable|has been discarded|Client has encountered|pool after calling end|connection held too long|PGlite is clos|driver has already been destroyed|not currently accepting connections|password authentication|does not support SSL/i;

/** Whether a connection failed because of its TLS settings. */
export function isTlsFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return tls.test(code) || /does not support SSL/i.test(error.message);
}

/** Whether a database driver's error means that the database is unavailable, not that a statement is wrong. */
export function isUnavailability(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  // The embedded database's abort (disk full, out of memory) surfaces as WebAssembly's own error.
  if (error instanceof WebAssembly.RuntimeError) return true;
  if (error instanceof AggregateError) return error.errors.some(isUnavailability);
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return unavailable.test(code) || socket.test(code) || tls.test(code) || driver.test(error.message);
}
