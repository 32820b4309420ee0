import { type ParseError, parse, printParseErrorCode } from "jsonc-parser";
import { z } from "zod";

const json = z.record(z.string(), z.unknown());
const texts = z.array(z.union([z.string(), z.number(), z.boolean()]).transform(String));
const values = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]));

/** An entry of any known format, with the names of all of them; unknown keys are kept, to be reported. */
const entrySchema = z.looseObject({
  command: z
    .union([z.string(), texts, z.looseObject({ path: z.string(), args: texts.optional() })])
    .optional(),
  args: texts.optional(),
  env: values.optional(),
  environment: values.optional(),
  envFile: z.string().optional(),
  cwd: z.string().optional(),
  url: z.string().optional(),
  serverUrl: z.string().optional(),
  httpUrl: z.string().optional(),
  type: z.string().optional(),
  transport: z.string().optional(),
  headers: values.optional(),
  auth: z.unknown().optional(),
  oauth: z.unknown().optional(),
  disabled: z.boolean().optional(),
  enabled: z.boolean().optional(),
  description: z.string().optional(),
  disabledTools: texts.optional(),
  excludeTools: texts.optional(),
  includeTools: texts.optional(),
  tools: z.unknown().optional(),
});
export type ServerEntry = z.output<typeof entrySchema>;

/** An entry that cannot be taken over. */
export interface LeftOut {
  readonly name: string;
  readonly reason: string;
  /** What to do. */
  readonly fix: string;
}

/** A configuration of MCP servers, as desktop clients and bridges write it. */
export interface ServersFile {
  readonly entries: ReadonlyMap<string, ServerEntry>;
  /** VS Code's `inputs` by id: values that the editor asks for. */
  readonly inputs: ReadonlyMap<string, { readonly default?: string }>;
  readonly leftOut: readonly LeftOut[];
}

/** A file that is not a configuration of MCP servers; the message has no content of the file. */
export class UnreadableServersFile extends Error {}

const example = 'write {"mcpServers": {"NAME": {"command": ...}}}';

/**
 * Reads a configuration in JSON, with comments and trailing commas: `mcpServers` (Claude, Cursor, Windsurf, Gemini CLI, FastMCP,
 * mcp-proxy), `servers` and `mcp.servers` (VS Code), `context_servers` (Zed), `mcp` (opencode), or servers at the top level.
 * @throws UnreadableServersFile
 */
export function readServersFile(text: string): ServersFile {
  if (text.replace(/^\uFEFF/, "").trim() === "")
    throw new UnreadableServersFile(`the file is empty; ${example}`);
  const errors: ParseError[] = [];
  const parsed: unknown = parse(text.replace(/^\uFEFF/, ""), errors, {
    allowTrailingComma: true,
    disallowComments: false,
  });
  const [error] = errors;
  if (error !== undefined) {
    const line = text.slice(0, error.offset).split("\n").length;
    throw new UnreadableServersFile(
      `line ${line} is not valid JSON (${printParseErrorCode(error.error)}); convert YAML and TOML files to JSON with a key mcpServers`,
    );
  }
  const top = json.safeParse(parsed);
  if (!top.success) throw new UnreadableServersFile("the file is not a JSON object");
  const found = serversOf(top.data);
  if (found === undefined)
    throw new UnreadableServersFile(`there is no mcpServers (or servers) in the file; ${example}`);

  const entries = new Map<string, ServerEntry>();
  const leftOut: LeftOut[] = [];
  for (const [name, value] of Object.entries(found)) {
    const entry = entrySchema.safeParse(value);
    if (entry.success) entries.set(name, entry.data);
    else {
      const keys = [...new Set(entry.error.issues.map(({ path }) => path.join(".") || "the entry"))].join(
        ", ",
      );
      leftOut.push({
        name,
        reason: `${keys} has an unexpected type`,
        fix: "write command as a text, args as a list, env and headers as objects",
      });
    }
  }
  for (const folder of Object.keys(json.safeParse(top.data.projects).data ?? {}))
    if (serversOf(json.safeParse(json.safeParse(top.data.projects).data?.[folder]).data ?? {}))
      leftOut.push({
        name: `projects[${JSON.stringify(folder)}]`,
        reason: "servers of a single project are not read",
        fix: "copy them into a file with a key mcpServers, and import that file",
      });
  return { entries, inputs: inputsOf(top.data), leftOut };
}

function serversOf(top: Record<string, unknown>): Record<string, unknown> | undefined {
  const nested = json.safeParse(top.mcp).data;
  for (const candidate of [top.mcpServers, top.servers, top.context_servers, nested?.servers, nested]) {
    const servers = json.safeParse(candidate);
    if (servers.success) return servers.data;
  }
  const whole = Object.values(top).some((value) => {
    const entry = json.safeParse(value).data;
    return entry !== undefined && ("command" in entry || "url" in entry);
  });
  return whole ? top : undefined;
}

function inputsOf(top: Record<string, unknown>): ServersFile["inputs"] {
  const input = z.looseObject({ id: z.string(), default: z.string().optional() });
  const given = top.inputs ?? json.safeParse(top.mcp).data?.inputs;
  const list = Array.isArray(given) ? given : [];
  return new Map(
    list.flatMap((one) => {
      const parsed = input.safeParse(one);
      return parsed.success ? [[parsed.data.id, { default: parsed.data.default }] as const] : [];
    }),
  );
}
