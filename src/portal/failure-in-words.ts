/** Why a connection was not made, in words of ours: anybody can make a link that has an error code. */
export function failureInWords(code: string | string[]): string {
  if (code === "access_denied") return "it was refused there, or you may not use this server.";
  if (code === "temporarily_unavailable") return "its sign-in cannot be reached just now. Try again later.";
  return "its sign-in did not work. Try again; if it stays so, tell the people who run this service.";
}
