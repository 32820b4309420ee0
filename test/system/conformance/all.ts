import { spawn } from "node:child_process";
import { join } from "node:path";

/*
 * `node test/system/conformance/all.ts`: the suite's three kinds of scenarios: the gateway as OAuth client of upstreams, its
 * authorization server, an MCP server behind it. Ends with a line per kind and the total count.
 */
const kinds = [
  ["client", "conformance.ts"],
  ["authorization", "authorization.ts"],
  ["server", "server.ts"],
] as const;
const summary: string[] = [];
let passed = 0;
let failed = 0;
for (const [kind, file] of kinds) {
  console.log(`\n== ${kind} scenarios`);
  const { output, code } = await run(join(import.meta.dirname, file));
  const [, yes = "0", no = "0", rest = ""] =
    /(\d+) passed, (\d+) failed((?:, \d+ alike)?)\n*$/.exec(output) ?? [];
  passed += Number(yes);
  // A run without a count has failed, whatever it printed before.
  failed += Number(no) + (code !== 0 && no === "0" ? 1 : 0);
  summary.push(`${kind.padEnd(14)} ${yes} passed, ${no} failed${rest}${code === 0 ? "" : `, exit ${code}`}`);
}
console.log(`\n${summary.join("\n")}\n${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;

function run(file: string): Promise<{ output: string; code: number | null }> {
  const child = spawn(process.execPath, [file], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk;
    process.stdout.write(chunk);
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ output, code })));
}
