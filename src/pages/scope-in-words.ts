const words: Readonly<Record<string, string>> = {
  mcp: "Use this server’s tools, prompts and resources as you",
  openid: "Know who you are",
  profile: "See your name",
  email: "See your e-mail address",
  groups: "See your groups",
  offline_access: "Stay connected while you are away",
};

/** A scope as a sentence for the consent page; one we do not know is shown by its name. */
export function scopeInWords(scope: string): string {
  return Object.hasOwn(words, scope) ? (words[scope] ?? scope) : `Use the permission “${scope}”`;
}
