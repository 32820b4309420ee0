/** `error` of a listening socket, said in words: a taken port is named, and `setting`, which moves it. */
export function portError(error: NodeJS.ErrnoException, port: number, setting?: string): Error {
  if (error.code !== "EADDRINUSE") return error;
  const remedy = setting ? `stop what listens there, or set ${setting} to another port` : "choose another";
  return new Error(`Port ${port} is taken: ${remedy}.`, { cause: error });
}
