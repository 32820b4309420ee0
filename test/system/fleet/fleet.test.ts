import { readFile, rename, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { pingThroughEnvoy } from "../../support/ping-through-envoy.ts";
import { throughEnvoy } from "../../support/through-envoy.ts";
import { type Calls, callsThrough } from "./calls.ts";
import { type Fleet, type FleetEnvoy, startFleet } from "./fleet.ts";
import { startUpstreams, type Upstreams } from "./upstreams.ts";

/* Three Envoys and two sidecars on one Postgres. The Envoys share no folder with the sidecars, only the network. */
let fleet: Fleet;
let upstreams: Upstreams;
let calls: Calls;
const changed = "https://changed.test/mcp";
const added = "https://added.test";

beforeAll(async () => {
  upstreams = await startUpstreams(8);
  fleet = await startFleet({ names: ["changed.test", "added.test"] });
  const { stack, envoys } = fleet;
  await create({ id: "changed", from: changed, ...upstreams.settings(0) });
  const served = async () => expect(await routesOf(envoys, "changed.test")).toEqual([true, true, true]);
  await vi.waitFor(served, { timeout: 60_000 });
  const token = await stack.externalToken("alice", changed);
  calls = callsThrough({ envoys, ca: stack.ca.ca, url: changed, token, callers: 2 });
  await calls.reach(0);
});
afterAll(async () => {
  await calls?.close();
  await fleet?.close();
  await upstreams?.close();
});

const place = (envoy: FleetEnvoy) => ({ ...envoy, ca: fleet.stack.ca });
async function create(route: object, of: 0 | 1 = 0): Promise<void> {
  const created = await fleet.admin("POST", "/routes", route, of);
  expect([created.status, await created.text()]).toEqual([201, expect.anything()]);
}
async function change(settings: object, of: 0 | 1): Promise<void> {
  const patched = await fleet.admin("PATCH", "/routes/changed", settings, of);
  expect([patched.status, await patched.text()]).toEqual([200, expect.anything()]);
}
const openServer = () => ({
  id: "added",
  from: added,
  to: fleet.stack.open.url,
  mcp: { server: { upstream_auth: { none: {} } } },
});

test("a route that is added through one sidecar's admin API is served by every Envoy", async () => {
  await create(openServer());
  await expect.poll(() => routesOf(fleet.envoys, "added.test")).toEqual([true, true, true]);
  const token = await fleet.stack.externalToken("bob", added);
  const pings = () =>
    Promise.all(
      fleet.envoys.map(async (envoy) => (await pingThroughEnvoy(place(envoy), added, token)).status),
    );
  await expect.poll(pings).toEqual([200, 200, 200]);

  // Once more through the other sidecar, now with a token: until the upstream answers.
  expect((await fleet.admin("DELETE", "/routes/added")).status).toBe(204);
  await expect.poll(() => routesOf(fleet.envoys, "added.test")).toEqual([false, false, false]);
  const before = performance.now();
  await create(openServer(), 1);
  await expect.poll(pings, { interval: 20, timeout: 20_000 }).toEqual([200, 200, 200]);
  process.stderr.write(
    `a new route was served by all Envoys after ${Math.round(performance.now() - before)} ms\n`,
  );
});

/** Whether each Envoy has a route of this host. */
function routesOf(envoys: readonly FleetEnvoy[], host: string): Promise<boolean[]> {
  return Promise.all(
    envoys.map(async ({ adminUrl }) => {
      const dump = await fetch(`${adminUrl}/config_dump?resource=dynamic_route_configs`);
      return (await dump.text()).includes(host);
    }),
  );
}

test("no call fails while routes are added and a route's upstream changes, and every upstream gets its own credential", async () => {
  const { failures, calls: count } = await calls.during(async () => {
    // The second change of a round comes while Envoys pause after they have fetched the first one.
    for (const [round, [first, to]] of (
      [
        [1, 2],
        [4, 5],
        [6, 3],
      ] as const
    ).entries()) {
      const of = round % 2 === 0 ? 1 : 0;
      await create({ ...openServer(), id: `more-${round}`, from: `${added}/more-${round}` }, of);
      await change(upstreams.settings(first), of);
      await change(upstreams.settings(to), of);
      await calls.reach(to);
    }
  });
  expect(failures).toEqual([]);
  expect(upstreams.confused).toEqual([]);
  expect(count).toBeGreaterThan(0);
});

test("switching on a policy that inspects bodies answers 200, or 503 with Retry-After for a moment", async () => {
  const policy = [
    { allow: { and: [{ authenticated_user: true }] } },
    { deny: { or: [{ mcp_tool: { is: "forbidden" } }] } },
  ];
  const switchedOn = await calls.during(async () => {
    await change({ policy }, 1);
    await expect.poll(inspectedBy).toEqual([true, true, true]);
    await calls.reach(3);
  });
  expect(
    switchedOn.failures.filter(({ status, retryAfter }) => status !== 503 || retryAfter === null),
  ).toEqual([]);
  const switchedOff = await calls.during(async () => {
    await change({ policy: null }, 0);
    await expect.poll(inspectedBy).toEqual([false, false, false]);
    await calls.reach(3);
  });
  expect(switchedOff.failures).toEqual([]);
  expect(upstreams.confused).toEqual([]);
});

/** Whether each Envoy sends the bodies of the changed route to the check. */
function inspectedBy(): Promise<boolean[]> {
  return Promise.all(
    fleet.envoys.map(async ({ adminUrl }) => {
      const dump = await fetch(`${adminUrl}/config_dump?resource=dynamic_route_configs`);
      return (await dump.text()).includes('"with_request_body"');
    }),
  );
}

test("no call fails while the sidecar that configures the Envoys restarts, and changes arrive from the other one", async () => {
  const { failures } = await calls.during(async () => {
    const restarted = fleet.stack.restartSidecar();
    await expect.poll(() => fleet.metric('xds_envoys{state="current"}', 1)).toBe(3);
    await change(upstreams.settings(7), 1);
    await calls.reach(7);
    await restarted;
    await expect.poll(() => fleet.metric('xds_envoys{state="current"}', 0)).toBe(3);
    await calls.reach(7);
  });
  expect(failures).toEqual([]);
  expect(upstreams.confused).toEqual([]);
});

test("a replaced credential is used without a restart, and a wrong one leaves Envoy with its configuration", async () => {
  const text = await readFile(fleet.credential, "utf8");
  const replace = async (credential: string) => {
    await writeFile(`${fleet.credential}.new`, text.replace(fleet.secrets.xds, credential), { mode: 0o600 });
    await rename(`${fleet.credential}.new`, fleet.credential);
  };
  const rejected = () => fleet.metric('unauthenticated_calls_total{listener="xds"}', 0);
  const before = await rejected();
  await replace("a-credential-that-nobody-has-issued");
  // What the Envoys have asked for with the former one is answered.
  await change(upstreams.settings(0), 1);
  await expect.poll(rejected).toBeGreaterThan(before + 6);
  for (const envoy of fleet.envoys) expect((await calls.call(envoy)).status).toBe(200);
  await replace(fleet.secrets.nextXds);
  await calls.reach(0);
});

test("the private port counts the Envoys, and the log names each with its version", async () => {
  await expect.poll(() => fleet.metric('xds_envoys{state="current"}', 0)).toBe(3);
  for (const replica of [0, 1] as const)
    await expect.poll(() => fleet.metric('xds_envoys{state="behind"}', replica)).toBe(0);
  const log = await readFile(fleet.stack.sidecar().logFile, "utf8");
  for (const { name } of fleet.envoys)
    expect(log).toMatch(
      new RegExp(`"node":"${name}".*"resources":"routes","version":"[\\w-]{16}","msg":"Envoy applied`),
    );
  for (const secret of [fleet.secrets.xds, fleet.secrets.nextXds]) expect(log).not.toContain(secret);
});

test("while both sidecars are away, Envoys keep their configuration and fail closed; one that restarts waits for them", async () => {
  const [first] = fleet.envoys;
  const own = { url: "https://changed.test/.well-known/oauth-protected-resource/mcp" };
  const ownStatuses = () =>
    Promise.all(fleet.envoys.map(async (envoy) => (await throughEnvoy(place(envoy), own)).status));
  expect(await ownStatuses()).toEqual([200, 200, 200]);
  await Promise.all([fleet.second().close(), fleet.stack.sidecar().close()]);
  await first?.restart({ ready: false });
  for (const envoy of fleet.envoys.slice(1)) {
    expect((await calls.call(envoy)).status).toBe(503);
    expect((await throughEnvoy(place(envoy), own)).status).toBe(503);
  }
  expect(await first?.isReady()).toBe(false);
  await Promise.all([fleet.startSecond(), fleet.stack.restartSidecar()]);
  await expect.poll(() => first?.isReady()).toBe(true);
  const answers = () => Promise.all(fleet.envoys.map((envoy) => calls.call(envoy)));
  await expect.poll(answers).toEqual(fleet.envoys.map(() => ({ status: 200, server: 0 })));
  expect(upstreams.confused).toEqual([]);
});
