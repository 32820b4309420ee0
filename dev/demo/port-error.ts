/** A readable error for a listening socket: names a port in use, and `setting`, which overrides it. */
export function portError(error: NodeJS.ErrnoException, port: number, setting?: string): Error {
  if (error.code !== "EADDRINUSE") return error;
  const remedy = setting
    ? `stop the program that listens there, or set ${setting} to another port`
    : "choose another";
  return new Error(`Port ${port} is in use: ${remedy}.`, { cause: error });
}
