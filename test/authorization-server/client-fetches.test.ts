import { expect, test } from "vitest";
import type { AuthorizationServerDeps } from "../../src/authorization-server/authorization-server.ts";
import { createClientFetches } from "../../src/authorization-server/client-fetches.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";

type Deps = Parameters<typeof createClientFetches>[0];

/** Fetches that block until released. */
function setUp(grants: readonly string[] = []) {
  const release = Promise.withResolvers<void>();
  const fetched: string[] = [];
  const limits = { clientFetchesPerAddress: 100, clientFetchesPerHost: 3, clientFetchesAtOnce: 2 };
  const parts: unknown = {
    routes: () => ({ config: { limits, envoy: { xffNumTrustedHops: 0 } } }),
    store: { authorizationServerRecords: { clientHasGrant: async (id: string) => grants.includes(id) } },
    metrics: createMetrics(),
    fetch: async (url: string): ReturnType<AuthorizationServerDeps["fetch"]> => {
      fetched.push(url);
      await release.promise;
      return new Response("{}", { status: 200 });
    },
  };
  const fetches = createClientFetches(parts as Deps);
  return { fetches, fetched, release: release.resolve };
}

test("at most limits.client_fetches_at_once run at a time, and a URL counts once", async () => {
  const { fetches, fetched, release } = setUp();
  const answers = ["a", "a", "b", "c", "a"].map((name) => fetches.fetch(`https://${name}.test/`, {}));
  const settled = Promise.allSettled(answers);
  await expect(answers[3]).rejects.toThrow("client_fetches_at_once");
  release();
  const outcomes = (await settled).map(({ status }) => status);
  expect(outcomes).toEqual(["fulfilled", "fulfilled", "fulfilled", "rejected", "fulfilled"]);
  expect(fetched).toEqual(["https://a.test/", "https://b.test/"]);
});

test("a host's limit that unknown clients have reached does not stop a client with a grant", async () => {
  const { fetches, release } = setUp(["https://a.test/known"]);
  release();
  for (const path of ["1", "2", "3"]) await fetches.fetch(`https://a.test/${path}`, {});
  await expect(fetches.fetch("https://a.test/4", {})).rejects.toThrow("client_fetches_per_host");
  expect((await fetches.fetch("https://a.test/known", {})).status).toBe(200);
});
