const names =
  /(?:^|[-_.])(?:api[-_]?key|keys?|tokens?|secrets?|pass(?:word|wd|phrase)?|pwd|credentials?|auth(?:orization)?|bearer|pat|dsn|connection[-_]?string|cookie)(?:$|[-_.])/i;
const prefixes =
  /^(?:(?:bearer|basic|token) )?(?:sk[-_]|rk_|gh[pousr]_|github_pat_|glpat-|xox[a-z]-|xapp-|AKIA|ASIA|AIza|ya29\.|eyJ|hf_|npm_|pypi-|lin_api_|ntn_|dop_v1_|SG\.|figd_|tvly-|ctx7sk)/i;

/** Whether the name of a variable, header, flag or parameter says that its value is a secret: `GITHUB_TOKEN`, `--api-key`, `apiKey`. */
export function isSecretName(name: string): boolean {
  return names.test(name.replace(/([a-z0-9])([A-Z])/g, "$1_$2"));
}

/** Whether a value looks like a credential: a vendor's prefix, a URL with a password, or a long random text. */
export function isSecretValue(value: string): boolean {
  if (prefixes.test(value) || /^(?:bearer|basic) \S{8}/i.test(value)) return true;
  if (/:\/\/[^/@\s]*:[^/@\s]+@/.test(value)) return true;
  if (/^[0-9a-f]{32,}$/i.test(value)) return true;
  if (/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)) return true;
  return /^[\w+=~-]{20,}$/.test(value) && /[a-z]/.test(value) && /[A-Z]/.test(value) && /[0-9]/.test(value);
}

/** Names the arguments that seem to contain a secret, without it: `argument 3 (--api-key)`. */
export function secretArguments(args: readonly string[]): readonly string[] {
  return args.flatMap((arg, index) => {
    const [, name, value] = /^(--?[\w.-]+|[A-Za-z_]\w*)[=:]\s*(.+)$/s.exec(arg) ?? [];
    if (name !== undefined && value !== undefined && (isSecretName(name) || isSecretValue(value)))
      return [`argument ${index + 1} (${name})`];
    const before = args[index - 1] ?? "";
    if (/^--?[\w.-]+$/.test(before) && isSecretName(before) && !arg.startsWith("-"))
      return [`argument ${index + 1} (after ${before})`];
    return isSecretValue(arg) || hasSecretInUrl(arg) ? [`argument ${index + 1}`] : [];
  });
}

/** Whether a URL carries a secret: user info, a parameter, or a part of its path. */
export function hasSecretInUrl(text: string): boolean {
  const url = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? URL.parse(text) : null;
  if (url === null) return false;
  return (
    url.password !== "" ||
    [...url.searchParams].some(([name, value]) => isSecretName(name) || isSecretValue(value)) ||
    url.pathname.split("/").some(isSecretValue)
  );
}
