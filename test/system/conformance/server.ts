import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startE2e } from "../../support/e2e.ts";
import { aggregatedDifferences } from "./aggregated-differences.ts";
import { bearingProxy } from "./bearing-proxy.ts";
import { fixtureServer } from "./fixture-server/fixture-server.ts";
import { requiredServerScenarios } from "./required-server-scenarios.ts";
import { type Outcomes, serverSuite } from "./server-suite.ts";

/*
 * `node test/system/conformance/server.ts [--keep]`: the suite's server scenarios against our fixture server, first directly, then
 * through Envoy and the sidecar with an external token: on a route, on an aggregated route with this one member, and on one with three
 * members that have a part of it each. A scenario passes if every check passes both ways. It fails if a result differs through the
 * gateway, or if the revision requires it and it does not pass. Optional scenarios that our fixture server does not support are `alike`
 * if they fail the same both ways: they are counted and named, but not as passed. What must differ is listed in
 * aggregated-differences.yaml, with the reason.
 */
const keep = process.argv.includes("--keep");
const folder = await mkdtemp(join(tmpdir(), "conformance-server-"));
const fixture = await fixtureServer();
/** Their names are a prefix of the suite's, so that the prefixed names are the suite's. */
const parts = {
  test: await fixtureServer({ prefix: "test_", resources: true }),
  json: await fixtureServer({ prefix: "json_", resources: false }),
  idle: await fixtureServer({ prefix: "idle_", resources: false }),
};
const direct = `${fixture.url}/mcp`;
const ways = [
  { host: "fixture.test", name: "through Envoy", user: "alice" },
  { host: "one.test", name: "aggregated, one member", user: "alice" },
  // Another user: the suite begins a session for every scenario, and there is a limit for one user.
  { host: "three.test", name: "aggregated, three members", user: "bob" },
] as const;
const open = { server: { upstream_auth: "none" } };
const stack = await startE2e({
  folder: join(folder, "stack"),
  names: [...ways.map(({ host }) => host), ...Object.keys(parts).map((id) => `${id}.parts.test`)],
  config: (config) => ({
    ...config,
    routes: [
      ...config.routes,
      { id: "fixture", from: "https://fixture.test", to: direct, mcp: open },
      ...Object.entries(parts).map(([id, { url }]) => ({
        id,
        from: `https://${id}.parts.test`,
        to: `${url}/mcp`,
        mcp: open,
      })),
      { id: "one", from: "https://one.test", mcp: { aggregate: { routes: ["fixture"], prefix: "" } } },
      {
        id: "three",
        from: "https://three.test",
        mcp: { aggregate: { routes: Object.keys(parts), prefix: "{route}_" } },
      },
    ],
  }),
});
const differing = await aggregatedDifferences();

let passed = 0;
let failed = 0;
const alike: string[] = [];
const excused: string[] = [];
for (const revision of ["2025-11-25", "2026-07-28"]) {
  const expected = await serverSuite(direct, revision, join(folder, `${revision}-direct`));
  const required = await requiredServerScenarios(revision);
  for (const { host, name: way, user } of ways) {
    const proxy = await bearingProxy(stack, host, await stack.externalToken(user, `https://${host}`));
    const actual = await serverSuite(`${proxy.url}/mcp`, revision, join(folder, `${revision}-${host}`));
    await proxy.close();
    for (const name of new Set([...required, ...expected.keys()])) {
      const outcomes = expected.get(name) ?? [];
      const differences = differencesOf(outcomes, actual.get(name) ?? [], way);
      const reason = differing.reasonFor(host, name, revision);
      const label = `${name.padEnd(50)} ${revision}  ${way}`;
      if (differences.length > 0 && reason !== undefined) {
        excused.push(`${name} (${revision}, ${way}): ${reason}`);
        console.log(`known ${label}`);
      } else if (differences.length > 0 || reason !== undefined) {
        failed += 1;
        const why = differences.join("\n") || `        no longer differs: remove it from ${differing.file}`;
        console.log(`FAIL  ${label}\n${why}`);
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
}
await stack.close();
for (const one of [fixture, ...Object.values(parts)]) await one.close();
if (keep) console.log(`\nlogs and checks: ${folder}`);
else await rm(folder, { recursive: true, force: true });
const optional = [...new Set(alike)].join(", ") || "none";
console.log(`\noptional, not offered by our fixture server, alike both ways: ${optional}`);
console.log(`different on aggregated routes:\n${excused.map((one) => `  ${one}`).join("\n") || "  none"}`);
console.log(`${passed} passed, ${failed} failed, ${alike.length} alike`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;

function differencesOf(expected: Outcomes, actual: Outcomes, way: string): string[] {
  return [
    ...without(expected, actual).map((one) => `        ${"directly".padEnd(way.length)} ${one}`),
    ...without(actual, expected).map((one) => `        ${way} ${one}`),
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
