import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { listen } from "../../../dev/demo/listen.ts";
import { expectedFailures } from "./expected-failures.ts";
import { gateway } from "./gateway.ts";
import { wrongReason } from "./rejection-reasons.ts";
import { runScenario } from "./run-scenario.ts";
import { scenarios } from "./scenario.ts";

/**
 * `node test/system/conformance/conformance.ts [part of a name] [--keep]`: runs the suite's scenarios against Envoy and the sidecar as
 * OAuth client of the scenario's servers. Prints one line each, then the count. Exits with 1 if one fails unexpectedly, or passes
 * although it is expected to fail. `--keep` keeps logs and checks in a directory that it prints.
 */
const keep = process.argv.includes("--keep");
const wanted = process.argv.slice(2).find((argument) => !argument.startsWith("--")) ?? "";
const folder = await mkdtemp(join(tmpdir(), "conformance-"));
const expected = await expectedFailures();
const started = performance.now();
const stack = await gateway(join(folder, "gateway"));
const control = await listen(async (request, response) => {
  try {
    response.end(JSON.stringify(await stack.serve(JSON.parse(await text(request)))));
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
});
process.once("SIGINT", () => void finish().then(() => process.exit(130)));

let passed = 0;
let failed = 0;
let excused = 0;
for (const scenario of scenarios()) {
  if (!`${scenario.name} ${scenario.revision}`.includes(wanted)) continue;
  const logged = (await stack.log()).length;
  const output = join(folder, scenario.revision, scenario.name);
  await mkdir(output, { recursive: true });
  const judged = await runScenario(scenario, { gateway: control.url, output });
  const sidecarLog = (await stack.log()).slice(logged);
  await writeFile(join(output, "sidecar.log"), sidecarLog);
  const wrong = judged.ok ? wrongReason(scenario, sidecarLog) : undefined;
  const verdict = wrong === undefined ? judged : { ...judged, ok: false, problems: [wrong] };
  const excuse = expected.excuse(scenario, verdict);
  const label = `${scenario.name.padEnd(45)} ${scenario.revision.padEnd(10)} ${(verdict.milliseconds / 1000).toFixed(1).padStart(5)} s`;
  if (verdict.ok && !excuse) passed += 1;
  else if (excuse && !verdict.ok) excused += 1;
  else failed += 1;
  if (verdict.ok)
    console.log(`${excuse ? "FAIL " : "pass "} ${label}${excuse ? "  passes: remove it from the list" : ""}`);
  else
    console.log(
      `${excuse ? "known" : "FAIL "} ${label}\n${verdict.problems.map((problem) => `        ${problem}`).join("\n")}`,
    );
}
await finish();
const seconds = ((performance.now() - started) / 1000).toFixed(0);
console.log(`\n${excused} failed as expected (test/system/conformance/expected-failures.yaml), ${seconds} s`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed + excused === 0 ? 1 : 0;

async function finish(): Promise<void> {
  await stack.close();
  await control.close();
  if (keep) console.log(`\nlogs and checks: ${folder}`);
  else await rm(folder, { recursive: true, force: true });
}
