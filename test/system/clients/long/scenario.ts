import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Target, World } from "./world.ts";

/** A client or server, and its test; the texts describe what worked. */
export interface Scenario {
  readonly name: string;
  readonly version: string;
  readonly steps: (world: World, worked: (what: string) => void) => Promise<void>;
  /** Why it is not run here. */
  readonly unavailable?: (world: World) => string | undefined;
}

const folder = join(import.meta.dirname, "..");
const pinned = async (file: string, pattern: RegExp) =>
  pattern.exec(await readFile(join(folder, file), "utf8"))?.[1] ?? "?";

/** The pinned version of a package, from a file in `test/system/clients`. */
export const versions = {
  npm: (name: string, file = "long/package.json") =>
    pinned(file, new RegExp(`"${name}": "(?:npm:.*@)?([\\d.]+)"`)),
  pip: (name: string, file: string) => pinned(file, new RegExp(`^${name}==(\\S+)$`, "m")),
  go: () => pinned("go/go.mod", /go-sdk v(\S+)/),
  rust: () => pinned("rust/Cargo.toml", /rmcp = \{ version = "=([^"]+)"/),
};

/** Fails unless the client's output contains the text. */
export function expectText(printed: string, expected: RegExp): void {
  if (!expected.test(printed)) throw new Error(`${expected} is not in:\n${printed.slice(-3000)}`);
}

/** Fails unless an agent repeats the answers of all calls. */
export function expectAnswers(printed: string, { calls }: Target): void {
  const said = `It said: ${calls.map(({ answer }) => answer).join(", ")}`;
  if (!printed.includes(said)) throw new Error(`"${said}" is not in:\n${printed.slice(-3000)}`);
}

/** Fails unless a program of this folder has listed the tools and printed their answers, before and after its token expired. */
export function expectTwice(printed: string, { calls }: Target): void {
  for (const { tool, answer } of calls) {
    expectText(printed, new RegExp(`^tools .*\\b${tool}\\b`, "m"));
    const lines = printed.split("\n").filter((line) => line.startsWith(`answered ${tool} `));
    const count = lines.filter((line) => line.includes(answer)).length;
    if (count !== 2) throw new Error(`${tool} answered ${answer} ${count} times:\n${printed.slice(-3000)}`);
  }
}

/** `again` works after the token has expired, without the user, with the refresh token. */
export async function afterExpiry(world: World, again: () => Promise<unknown>): Promise<void> {
  await delay(world.tokenSeconds * 1000);
  const { authorizations } = world.person;
  await again();
  if (world.person.authorizations !== authorizations)
    throw new Error("the person was asked again after the token had expired");
}

export const expired = "the expired token was refreshed";

/** What calls of a target are called in the table. */
export function callsInWords({ calls }: Target): string {
  return calls.length === 1 ? "a tool call" : `calls of ${calls.map(({ tool }) => tool).join(", ")}`;
}
