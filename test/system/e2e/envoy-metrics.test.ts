import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parse } from "yaml";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { pingThroughEnvoy } from "../../support/ping-through-envoy.ts";

let stack: E2e;
beforeAll(async () => {
  stack = await startE2e();
});
afterAll(() => stack?.close());

const root = join(import.meta.dirname, "../../..");
const dashboard = readFileSync(join(root, "deploy/helm/envoy-mcp-auth/files/dashboard.json"), "utf8");
const page = readFileSync(join(root, "docs/monitoring.md"), "utf8");

it("Envoy's metrics of the dashboard and the documentation exist, by the route's id", async () => {
  const token = await stack.externalToken("alice", stack.urls.open);
  expect((await pingThroughEnvoy(stack, stack.urls.open, token)).status).toBe(200);
  const { envoy, routes } = parse(readFileSync(stack.configFile, "utf8"));
  const { id } = routes.find(({ from }: { from: string }) => stack.urls.open.startsWith(from));
  const text = async () => (await fetch(`http://${envoy.admin}/stats/prometheus`)).text();
  // Envoy merges its threads' histograms every few seconds.
  await expect
    .poll(text)
    .toMatch(
      new RegExp(
        `^envoy_cluster_upstream_rq_time_count\\{[^}]*envoy_cluster_name="route/${id}"[^}]*\\} [1-9]`,
        "m",
      ),
    );
  const metrics = await text();
  const names = [...`${dashboard}${page}`.matchAll(/\benvoy_cluster_upstream_\w+(?=[{`])/g)].map(
    ([name]) => name,
  );
  expect(new Set(names)).toEqual(
    new Set([
      "envoy_cluster_upstream_rq_time",
      "envoy_cluster_upstream_rq_time_bucket",
      "envoy_cluster_upstream_rq_xx",
    ]),
  );
  for (const name of names)
    expect(metrics).toMatch(new RegExp(`^${name}(?:_bucket)?\\{[^}]*envoy_cluster_name="route/${id}"`, "m"));
});
