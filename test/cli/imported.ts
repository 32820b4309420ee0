import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { parse } from "yaml";
import { type ImportArguments, runImport } from "../../src/cli/import.ts";

interface WrittenRoute {
  readonly id: string;
  readonly name?: string;
  readonly from: string;
  readonly to?: string;
  readonly tools?: object;
  readonly mcp: {
    readonly server?: { readonly upstream_auth?: unknown; readonly request_headers?: unknown };
    readonly aggregate?: { readonly routes: readonly string[] };
  };
}
interface WrittenServer {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
}
type Options = Partial<ImportArguments> & { readonly env?: Record<string, string> };

/** Imports a configuration, as the command does. @returns its output, and what it wrote */
export function imported(content: unknown, options: Options = {}) {
  const folder = mkdtempSync(join(tmpdir(), "import-"));
  const file = join(folder, "servers.json");
  writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
  const given = {
    from: "https://mcp.example.com",
    aggregate: "all",
    bridge: "127.0.0.1:8100",
    clientId: "gateway",
  };
  const { env = {}, out = join(folder, "out"), ...rest } = options;
  const printed = { out: "", err: "" };
  const status = runImport(
    file,
    { ...given, ...rest, out },
    {
      env,
      out: (text) => {
        printed.out += text;
      },
      err: (text) => {
        printed.err += text;
      },
    },
  );
  const read = (name: string) => readFileSync(join(out, name), "utf8");
  const routes = (): readonly WrittenRoute[] => parse(read("routes.yaml")).routes;
  const route = (id: string) => {
    const found = routes().find((one) => one.id === id);
    if (found === undefined) throw new Error(`there is no route ${id}`);
    return found;
  };
  const bridged = (): Readonly<Record<string, WrittenServer>> => JSON.parse(read("bridge.json")).servers;
  return {
    status,
    ...printed,
    folder,
    written: out,
    read,
    routes,
    route,
    bridged,
    secrets: () => parseEnv(read("secrets.env")),
  };
}
/** Imports a configuration with these servers. */
export const servers = (mcpServers: object, options?: Options) => imported({ mcpServers }, options);
export const echo = { command: "node", args: ["echo.js"] };
