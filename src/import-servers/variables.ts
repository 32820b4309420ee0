import type { ServersFile } from "./entries.ts";

/** A reference that has no value. The message names the variable, never a value. */
export class UnresolvedVariable extends Error {
  readonly fix: string;
  constructor(message: string, fix: string) {
    super(message);
    this.fix = fix;
  }
}

/** The variable that gives a VS Code input its value: `${input:api-key}` is read from `INPUT_API_KEY`. */
export function inputVariable(id: string): string {
  return `INPUT_${id.toUpperCase().replace(/[^A-Z0-9]+/g, "_")}`;
}

/**
 * Resolves the references of desktop clients: `${NAME}`, `${NAME:-default}`, `${env:NAME}`, `${input:ID}`, `${userHome}`. Bridges do not,
 * or each in another way.
 * @param env the environment of the import
 * @param used receives the names of the variables that had a value there
 * @returns a function that resolves one text, and throws UnresolvedVariable
 */
export function variableResolver(
  env: Readonly<Record<string, string | undefined>>,
  inputs: ServersFile["inputs"],
  used: Set<string> = new Set(),
): (text: string) => string {
  return (text) => text.replace(/\$\{([^}]*)\}/g, (whole, reference: string) => value(whole, reference));

  function value(whole: string, reference: string): string {
    if (/^workspaceFolder|^fileWorkspaceFolder|^file$|^relativeFile/.test(reference))
      throw new UnresolvedVariable(
        `${whole} is a folder that only an editor knows`,
        "write the path on the machine that will run the server",
      );
    if (reference === "userHome") return variable("HOME");
    if (reference === "pathSeparator" || reference === "/") return "/";
    const input = /^input:(.+)$/.exec(reference)?.[1];
    if (input !== undefined) {
      if (env[inputVariable(input)]) used.add(inputVariable(input));
      const value = env[inputVariable(input)] ?? inputs.get(input)?.default;
      if (value) return value;
      throw new UnresolvedVariable(
        `${whole} is asked for by the editor`,
        `set ${inputVariable(input)} for this command, and import again with --force`,
      );
    }
    const named = /^(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$/s.exec(reference);
    if (named?.[1] === undefined)
      throw new UnresolvedVariable(
        `${whole} is not a reference that can be resolved`,
        `write \${NAME}, \${NAME:-default} or the value`,
      );
    return variable(named[1], named[2]);
  }

  function variable(name: string, fallback?: string): string {
    // As in a shell, `:-` also replaces an empty value.
    const value = env[name] || fallback;
    if (env[name]) used.add(name);
    if (value !== undefined) return value;
    if (env[name] === "") return "";
    throw new UnresolvedVariable(
      `the environment variable ${name} is not set`,
      `set ${name} for this command, and import again with --force`,
    );
  }
}
