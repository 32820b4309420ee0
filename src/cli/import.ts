import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { bridgeAddress } from "../import-servers/bridge-files.ts";
import { UnreadableServersFile } from "../import-servers/entries.ts";
import { readEnvLines } from "../import-servers/env-file.ts";
import { type ImportResult, importServers, type WrittenFile } from "../import-servers/import-servers.ts";
import { routePlaces } from "../import-servers/route-places.ts";
import { printable } from "../util/plain-text.ts";

/** The arguments of the command `import`. */
export interface ImportArguments {
  readonly from: string;
  readonly out: string;
  readonly force?: boolean;
  readonly bridge: string;
  /** Id of the aggregated route, or false. */
  readonly aggregate: string | false;
  readonly signIn?: string;
  readonly clientId: string;
  readonly domain?: string;
}

/**
 * The command `import`: writes routes, secrets and the bridge's files for the servers of `file` into `out`. Reports on `out` and `err`, without
 * any value of the file.
 * @returns the exit code: 1 if nothing was written
 */
export function runImport(
  file: string,
  given: ImportArguments,
  io: {
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly out: (text: string) => void;
    readonly err: (text: string) => void;
  },
): number {
  const fail = (message: string) => {
    io.err(`${message}\n`);
    return 1;
  };
  const places = routePlaces(given.from);
  if (typeof places === "string") return fail(places);
  if (given.signIn !== undefined && given.domain === undefined)
    return fail("--sign-in needs --domain: the domain of the e-mail addresses that may use the servers");
  if (given.aggregate !== false && !/^[a-z0-9]+(?:-[a-z0-9]+)*$/.test(given.aggregate))
    return fail(`--aggregate ${given.aggregate} is not a name; write lower-case letters, digits and hyphens`);
  const out = resolve(given.out);
  let result: ImportResult;
  try {
    bridgeAddress(given.bridge);
    result = importServers({
      text: readFileSync(file, "utf8"),
      folder: dirname(resolve(file)),
      env: io.env,
      places,
      bridge: given.bridge,
      aggregate: given.aggregate === false ? undefined : given.aggregate,
      signIn:
        given.signIn === undefined || given.domain === undefined
          ? undefined
          : { issuer: given.signIn, clientId: given.clientId, domain: given.domain },
      out,
      kept: given.force ? earlierSecrets(join(out, "secrets.env")) : {},
      user: containerUser(),
    });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code !== undefined) return fail(`${file} cannot be read (${String(code)})`);
    if (error instanceof UnreadableServersFile) return fail(`${file}: ${error.message}`);
    return fail(error instanceof Error ? error.message : "the file cannot be imported");
  }

  for (const { name, reason, fix } of result.leftOut)
    io.err(`left out: ${short(name)}: ${short(reason)}; ${short(fix)}\n`);
  if (result.files.length === 0) return fail(`${file}: no server can be taken over, and nothing was written`);
  const written = writeFiles(out, result.files, given.force === true);
  if (typeof written === "string") return fail(written);
  io.out(report(result, given));
  return 0;
}

function report({ servers, aggregate, files, toSet }: ImportResult, given: ImportArguments): string {
  const lines = servers.flatMap(({ name, kind, url, notes }) => [
    `${kind.padEnd(6)}  ${short(name)}  ${url}`,
    ...notes.map((note) => `        note: ${short(note)}`),
  ]);
  if (aggregate !== undefined) lines.push(`all     one URL for all of them: ${aggregate}`);
  lines.push("", `wrote into ${given.out}: ${files.map(({ name }) => name).join(", ")}`);
  if (toSet.length > 0) lines.push(`set in secrets.env: ${toSet.join(", ")}`);
  const bridge = servers.some(({ kind }) => kind === "stdio") ? "uv run --script bridge.py; " : "";
  lines.push(
    `next, in ${given.out}: ${bridge}envoy-mcp-auth serve --config routes.yaml --xds-dir xds, with the variables of secrets.env; envoy -c xds/bootstrap.yaml (docs/stdio.md)`,
  );
  return `${lines.join("\n")}\n`;
}

/** A name from the file, or what it leads to. */
const short = (text: string) => printable(text).slice(0, 400);

/** @returns undefined, or why nothing was written */
function writeFiles(out: string, files: readonly WrittenFile[], force: boolean): string | undefined {
  try {
    mkdirSync(out, { recursive: true, mode: 0o755 });
    if ((statSync(out).mode & 0o002) !== 0)
      return `every user of this machine can write to ${out}: choose another folder, or chmod o-w it`;
    const existing = files.filter(({ name }) => statSync(join(out, name), { throwIfNoEntry: false }));
    if (existing.length > 0 && !force)
      return `${out} already has ${existing.map(({ name }) => name).join(", ")}: add --force to replace them (secrets.env keeps its values), or choose another --out`;
    for (const { name, text, secret } of files) {
      // A new file, then renamed: its mode is right from the start, and no link is followed.
      const temporary = join(out, `.${name}.${randomBytes(6).toString("hex")}`);
      try {
        writeFileSync(temporary, text, { mode: secret ? 0o600 : 0o644, flag: "wx" });
        renameSync(temporary, join(out, name));
      } finally {
        rmSync(temporary, { force: true });
      }
    }
    return undefined;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    return `cannot write to ${out} (${code}); choose another --out`;
  }
}

/** @throws Error if there is a file that cannot be read: its encryption key must not be replaced. */
function earlierSecrets(file: string): Readonly<Record<string, string>> {
  if (statSync(file, { throwIfNoEntry: false }) === undefined) return {};
  try {
    return readEnvLines(readFileSync(file, "utf8"));
  } catch {
    throw new Error(
      `${file} cannot be read, and its values must be kept: make it readable to you, or choose another --out`,
    );
  }
}

/** Not root, even if root imports. */
function containerUser(): string {
  const uid = process.getuid?.() ?? 0;
  return uid === 0 ? "65532:65532" : `${uid}:${process.getgid?.() ?? uid}`;
}
