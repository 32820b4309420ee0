/** SQLSTATE classes that say nothing about the statement: connection, resources, operator, internal; read-only after a failover. */
const unavailable = /^(08|53|57|58|XX|25006|40001|40P01|55P03|25P0[34])/;
const socket =
  /^(ECONN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|ENOENT|EACCES|ENOSPC|EIO)/;
/** The server could not be verified: whatever answers there, it is not to be talked to. */
const tls = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|^ERR_(TLS|SSL)/;
const driver =
  /Connection (terminated|ended)|connection timeout|timeout exceeded when trying to connect|not queryable|has been discarded|Client has encountered|pool after calling end|connection held too long|PGlite is clos|driver has already been destroyed|password authentication|does not support SSL/i;

/** Whether a connection failed because it could not be protected as configured. */
export function isTlsFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return tls.test(code) || /does not support SSL/i.test(error.message);
}

/** Whether `error`, thrown by a database driver, means that the database is away rather than that a statement was wrong. */
export function isUnavailability(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  // The embedded database's abort (disk full, out of memory) surfaces as WebAssembly's own error.
  if (error instanceof WebAssembly.RuntimeError) return true;
  if (error instanceof AggregateError) return error.errors.some(isUnavailability);
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return unavailable.test(code) || socket.test(code) || tls.test(code) || driver.test(error.message);
}
