import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startE2e } from "../../support/e2e.ts";
import { bearingProxy } from "./bearing-proxy.ts";
import { fixtureServer } from "./fixture-server/fixture-server.ts";
import { requiredServerScenarios } from "./required-server-scenarios.ts";
import { type Outcomes, serverSuite } from "./server-suite.ts";

/*
 * `node test/system/conformance/server.ts [--keep]`: the suite's server scenarios against our fixture server, first directly, then
 * through Envoy and the sidecar with an external token. A scenario passes if every check passes both ways. It fails if a result
 * differs through the gateway, or if the revision requires it and it does not pass. Optional scenarios that our fixture server does
 * not support are `alike` if they fail the same both ways: they are counted and named, but not as passed.
 */
const keep = process.argv.includes("--keep");
const host = "fixture.test";
const folder = await mkdtemp(join(tmpdir(), "conformance-server-"));
const fixture = await fixtureServer();
const direct = `${fixture.url}/mcp`;
const stack = await startE2e({
  folder: join(folder, "stack"),
  names: [host],
  config: (config) => ({
    ...config,
    routes: [
      ...config.routes,
      {
        id: "fixture",
        from: `https://${host}`,
        to: direct,
        mcp: { server: { upstream_auth: "none" } },
      },
    ],
  }),
});
const proxy = await bearingProxy(stack, host, await stack.externalToken("alice", `https://${host}`));

let passed = 0;
let failed = 0;
const alike: string[] = [];
for (const revision of ["2025-11-25", "2026-07-28"]) {
  const expected = await serverSuite(direct, revision, join(folder, `${revision}-direct`));
  const actual = await serverSuite(`${proxy.url}/mcp`, revision, join(folder, `${revision}-through`));
  const required = await requiredServerScenarios(revision);
  for (const name of new Set([...required, ...expected.keys()])) {
    const outcomes = expected.get(name) ?? [];
    const differences = differencesOf(outcomes, actual.get(name) ?? []);
    const label = `${name.padEnd(50)} ${revision}`;
    if (differences.length > 0) {
      failed += 1;
      console.log(`FAIL  ${label}\n${differences.join("\n")}`);
    } else if (!passes(outcomes) && required.includes(name)) {
      failed += 1;
      const why = outcomes.filter(isBad).map((one) => `\n        both ways     ${one}`);
      console.log(`FAIL  ${label}${why.join("") || "\n        no check ran"}`);
    } else if (!passes(outcomes)) {
      alike.push(`${name} (${revision})`);
      console.log(`alike ${label}`);
    } else {
      passed += 1;
      console.log(`pass  ${label}`);
    }
  }
}
await proxy.close();
await stack.close();
await fixture.close();
if (keep) console.log(`\nlogs and checks: ${folder}`);
else await rm(folder, { recursive: true, force: true });
console.log(`\noptional, not offered by our fixture server, alike both ways: ${alike.join(", ") || "none"}`);
console.log(`${passed} passed, ${failed} failed, ${alike.length} alike`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;

function differencesOf(expected: Outcomes, actual: Outcomes): string[] {
  return [
    ...without(expected, actual).map((one) => `        directly      ${one}`),
    ...without(actual, expected).map((one) => `        through Envoy ${one}`),
  ];
}

/** `all` without one occurrence of each of `some`: a check may run several times. */
function without(all: Outcomes, some: Outcomes): Outcomes {
  const left = [...all];
  for (const one of some) if (left.includes(one)) left.splice(left.indexOf(one), 1);
  return left;
}

/** A scenario without a completed check has not passed. */
function passes(outcomes: Outcomes): boolean {
  return !outcomes.some(isBad) && outcomes.some((outcome) => outcome.endsWith(": SUCCESS"));
}

/** As in the suite, a warning is not a pass. */
function isBad(outcome: string): boolean {
  return /: (FAILURE|WARNING)$/.test(outcome);
}
