import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "../../deploy/demo/free-port.ts";
import { supervise } from "../../deploy/demo/supervise.ts";
import { startE2e } from "../support/e2e.ts";
import { bearingProxy } from "./bearing-proxy.ts";
import { type Outcomes, serverSuite } from "./server-suite.ts";

/*
 * `node test/conformance/server.ts [--keep]`: the suite's server scenarios against its own example server, first
 * directly, then through Envoy and the sidecar with a TE. A scenario passes when it passes both
 * ways, every check; one that the example server itself fails counts only when it comes out otherwise on the way.
 */
const keep = process.argv.includes("--keep");
const host = "reference.test";
const folder = await mkdtemp(join(tmpdir(), "conformance-server-"));
const port = await freePort();
const reference = supervise(
  process.execPath,
  [join(import.meta.dirname, "reference-server", "everything-server.js")],
  { logFile: join(folder, "reference.log"), env: { ...process.env, PORT: String(port) } },
);
const direct = `http://127.0.0.1:${port}/mcp`;
const stack = await startE2e({
  folder: join(folder, "stack"),
  names: [host],
  config: (config) => ({
    ...config,
    routes: [
      ...config.routes,
      {
        id: "reference",
        from: `https://${host}`,
        to: direct,
        mcp: { server: { upstream_auth: "none" } },
      },
    ],
  }),
});
while (!(await answers(direct))) await delay(50);
const proxy = await bearingProxy(stack, host, await stack.externalToken("alice", `https://${host}`));

let passed = 0;
let failed = 0;
let alike = 0;
for (const revision of ["2025-11-25", "2026-07-28"]) {
  const expected = await serverSuite(direct, revision, join(folder, `${revision}-direct`));
  const actual = await serverSuite(`${proxy.url}/mcp`, revision, join(folder, `${revision}-through`));
  for (const [name, outcomes] of expected) {
    const differences = differencesOf(outcomes, actual.get(name) ?? []);
    const fails = outcomes.some((outcome) => outcome.endsWith(": FAILURE"));
    const label = `${name.padEnd(50)} ${revision}`;
    if (differences.length > 0) {
      failed += 1;
      console.log(`FAIL  ${label}\n${differences.join("\n")}`);
    } else if (fails) {
      alike += 1;
      console.log(`alike ${label}`);
    } else {
      passed += 1;
      console.log(`pass  ${label}`);
    }
  }
}
await proxy.close();
await stack.close();
await reference.stop();
if (keep) console.log(`\nlogs and checks: ${folder}`);
else await rm(folder, { recursive: true, force: true });
console.log(`\n${alike} that the example server itself fails came out alike both ways`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;

function differencesOf(expected: Outcomes, actual: Outcomes): string[] {
  return [
    ...expected.filter((one) => !actual.includes(one)).map((one) => `        directly      ${one}`),
    ...actual.filter((one) => !expected.includes(one)).map((one) => `        through Envoy ${one}`),
  ];
}

async function answers(url: string): Promise<boolean> {
  try {
    await (await fetch(url)).body?.cancel();
    return true;
  } catch {
    return false;
  }
}
