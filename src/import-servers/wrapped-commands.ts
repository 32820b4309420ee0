/** What an entry's command really leads to. */
export type Unwrapped =
  | { readonly kind: "command"; readonly command: string; readonly args: readonly string[] }
  | {
      readonly kind: "remote";
      readonly url: string;
      /** As `Name: value`. */
      readonly headers: readonly string[];
    };

const runners = new Set(["npx", "bunx", "uvx", "pnpx"]);
const withValue: Readonly<Record<string, ReadonlySet<string>>> = {
  "mcp-remote": new Set([
    "--transport",
    "--host",
    "--resource",
    "--static-oauth-client-metadata",
    "--static-oauth-client-info",
    "--auth-timeout",
    "--ignore-tool",
  ]),
  supergateway: new Set([
    "--outputTransport",
    "--port",
    "--baseUrl",
    "--ssePath",
    "--messagePath",
    "--streamableHttpPath",
    "--logLevel",
    "--healthEndpoint",
    "--sessionTimeout",
    "--protocolVersion",
    "--cors",
  ]),
  "mcp-proxy": new Set([
    "--transport",
    "--port",
    "--host",
    "--sse-port",
    "--sse-host",
    "--log-level",
    "--server",
    "--endpoint",
    "--allow-origin",
    "--cwd",
  ]),
};

/**
 * Removes the programs that give a desktop client what the gateway gives: mcp-remote, mcp-proxy and supergateway in front of a URL (they
 * would open a browser on the gateway's machine), supergateway and mcp-proxy in front of a command, and Windows' `cmd /c`.
 * @param command and `args`: variables are resolved
 */
export function unwrapCommand(command: string, args: readonly string[]): Unwrapped {
  if (/^cmd(?:\.exe)?$/i.test(command) && /^\/c$/i.test(args[0] ?? "") && args[1] !== undefined)
    return unwrapCommand(args[1], args.slice(2));
  const { program, rest } = programOf(command, args);
  const valued = withValue[program];
  if (valued === undefined) return { kind: "command", command, args };

  const headers: string[] = [];
  const separator = rest.indexOf("--");
  const own = separator < 0 ? rest : rest.slice(0, separator);
  const positional: string[] = [];
  for (let index = 0; index < own.length; index++) {
    const [flag = "", inline] = splitFlag(own[index] ?? "");
    const next = () => inline ?? own[++index] ?? "";
    if (flag === "--stdio") return shellWords(next());
    if (flag === "--sse" || flag === "--streamableHttp") positional.push(next());
    else if (flag === "--header") headers.push(next());
    else if (flag === "--oauth2Bearer") headers.push(`Authorization: Bearer ${next()}`);
    else if (flag === "-H" || flag === "--headers") headers.push(`${next()}: ${own[++index] ?? ""}`);
    else if (valued.has(flag)) next();
    else if (!flag.startsWith("-")) {
      // What follows a command belongs to it; what follows a URL is mcp-remote's port.
      if (positional.length === 0 && !/^https?:/i.test(flag))
        return { kind: "command", command: flag, args: rest.slice(index + 1) };
      positional.push(own[index] ?? "");
    }
  }
  const [url] = positional;
  if (url !== undefined) return { kind: "remote", url, headers };
  const [inner, ...innerArgs] = separator < 0 ? [] : rest.slice(separator + 1);
  return inner === undefined ? { kind: "command", command, args } : unwrapCommand(inner, innerArgs);
}

/** The package that npx, uvx and the like run, without its version, and its arguments. */
function programOf(command: string, args: readonly string[]): { program: string; rest: readonly string[] } {
  const base = command.replace(/^.*[\\/]/, "").replace(/\.(?:cmd|exe)$/i, "");
  if (!runners.has(base)) return { program: base, rest: args };
  const at = args.findIndex((arg) => !arg.startsWith("-"));
  const program = (args[at] ?? "").replace(/(?<=.)(?:@|==).*$/, "");
  return { program, rest: args.slice(at + 1) };
}

function splitFlag(arg: string): readonly [string, string?] {
  const match = /^(--[\w-]+)=(.*)$/s.exec(arg);
  return match === null ? [arg] : [match[1] ?? arg, match[2]];
}

/** The words of supergateway's `--stdio`, with a shell's quotes; nothing else of a shell. */
function shellWords(line: string): Unwrapped {
  const words = [...line.matchAll(/(?:[^\s"']|"(?:\\.|[^"\\])*"|'[^']*')+/g)].map(([word]) =>
    word.replace(/"((?:\\.|[^"\\])*)"|'([^']*)'/g, (_, double?: string, single?: string) =>
      double === undefined ? (single ?? "") : double.replace(/\\(.)/g, "$1"),
    ),
  );
  const [command = "", ...args] = words;
  return unwrapCommand(command, args);
}
