import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { parse } from "yaml";
import { freePort } from "../dev/demo/free-port.ts";
import type { McpClient } from "../dev/demo/mcp-client.ts";
import { executablesOnPath } from "../envoy/executables-on-path.ts";
import { type E2e, startE2e, type User } from "../test/support/e2e.ts";
import { type Dashboard, dashboardPicture, type Series } from "./report/dashboard-picture.ts";

/*
 * Draws the Grafana dashboard without Grafana: `node bench/dashboard.ts FILE.svg`. A short day in the life of a gateway, real
 * Envoy and clients included; a real Prometheus scrapes it each second and answers the panels' own queries.
 */
const [file = "dashboard.svg"] = process.argv.slice(2);
const [prometheus] = process.env.PROMETHEUS ? [process.env.PROMETHEUS] : executablesOnPath("prometheus");
if (!prometheus) throw new Error("there is no prometheus on the PATH; PROMETHEUS=/path/to/it names one");
const lastSeconds = 80;
const dashboard: Dashboard = JSON.parse(
  readFileSync(join(import.meta.dirname, "../deploy/helm/envoy-mcp-auth/files/dashboard.json"), "utf8"),
);
const folder = mkdtempSync(join(tmpdir(), "dashboard-"));
const stack = await startE2e({ upstream: { accessTokenTtl: 20 } });
const server = await startPrometheus(folder, stack.adminUrl, envoyAdmin(stack));
try {
  const begin = Date.now() / 1000;
  await live(stack, lastSeconds * 1000);
  const end = Date.now() / 1000;
  const series = new Map<number, Series[]>();
  for (const { id, targets = [] } of dashboard.panels) {
    const lines = await Promise.all(targets.map((target) => evaluate(server.url, target, begin, end)));
    series.set(id, lines.flat());
  }
  writeFileSync(file, dashboardPicture(dashboard, series, end - begin));
} finally {
  await server.stop();
  await stack.close();
  rmSync(folder, { recursive: true, force: true });
}
console.log(file);
process.exit(0);

/** People connect, call, lose a token, are asked for more; strangers knock; an operator makes a mistake and mends it. */
async function live(e2e: E2e, ms: number): Promise<void> {
  const until = Date.now() + ms;
  const at = (share: number) => delay(share * ms);
  const { everything, open } = e2e.urls;
  const good = readFileSync(e2e.configFile, "utf8");
  const enter = async (user: User, url: string) => calls(await e2e.client(user, url), until);
  await Promise.all([
    enter("alice", everything),
    at(0.1).then(() => enter("bob", open)),
    at(0.2).then(() => enter("bob", everything)),
    at(0.3).then(() => e2e.upstream.killAccessTokens("ally")),
    at(0.4).then(() => strangers(e2e, until - 0.4 * ms)),
    at(0.5).then(() => writeFileSync(e2e.configFile, `${good}\nnonsense: true\n`)),
    at(0.65).then(() => writeFileSync(e2e.configFile, good)),
    at(0.75).then(() => e2e.upstream.revokeGrants("bobby")),
    at(0.85).then(() => enter("alice", open)),
  ]);
}

/** Calls tools at a changing pace. Where more authorization is wanted, the person gives it. */
async function calls(mcp: McpClient, until: number): Promise<void> {
  let client = await mcp.connect();
  const { tools } = await client.listTools();
  const name = tools.some((tool) => tool.name === "whoami") ? "whoami" : "greet";
  for (let turn = 1; Date.now() < until; turn++) {
    const tool = turn === 300 && name === "whoami" ? "write_note" : name;
    try {
      await client.callTool({ name: tool, arguments: { name: "Alice" } });
    } catch (error) {
      if (!(error instanceof UnauthorizedError)) throw error;
      client = await mcp.run(async (again) => {
        await again.callTool({ name: tool, arguments: { name: "Alice" } });
        return again;
      });
    }
    await delay(45 + 30 * Math.sin(Date.now() / 8000));
  }
}

/** What the Internet sends: no token, a made-up one, places that are not there. */
async function strangers(e2e: E2e, until: number): Promise<void> {
  while (Date.now() < until) {
    const { everything, open } = e2e.urls;
    await e2e.fetch(everything, { method: "POST", body: "{}" });
    await e2e.fetch(open, { method: "POST", body: "{}", headers: { authorization: "Bearer made.up" } });
    await e2e.fetch(`${new URL(open).origin}/.git/config`);
    await delay(150);
  }
}

/** `host:port` of Envoy's admin interface. */
function envoyAdmin({ configFile }: Pick<E2e, "configFile">): string {
  return String(parse(readFileSync(configFile, "utf8")).envoy.admin);
}

async function startPrometheus(place: string, target: string, envoy: string) {
  const config = join(place, "prometheus.yml");
  const scrape = { job_name: "envoy-mcp-auth", static_configs: [{ targets: [new URL(target).host] }] };
  const scrapeEnvoy = {
    ...{ job_name: "envoy", metrics_path: "/stats/prometheus" },
    static_configs: [{ targets: [envoy] }],
  };
  const scrapes = [scrape, scrapeEnvoy];
  writeFileSync(config, JSON.stringify({ global: { scrape_interval: "1s" }, scrape_configs: scrapes }));
  const address = `127.0.0.1:${await freePort()}`;
  const child = spawn(
    prometheus ?? "",
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(place, "data")}`,
      `--web.listen-address=${address}`,
    ],
    { stdio: "ignore" },
  );
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const url = `http://${address}`;
  const ready = () =>
    fetch(`${url}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  while (!(await ready())) {
    if (child.exitCode !== null) throw new Error(`Prometheus ended with ${child.exitCode}`);
    await delay(200);
  }
  return {
    url,
    async stop() {
      child.kill();
      await gone;
    },
  };
}

/** One query of a panel over the whole time, a point per second. */
async function evaluate(
  url: string,
  { expr, legendFormat = "" }: { expr: string; legendFormat?: string },
  begin: number,
  end: number,
): Promise<Series[]> {
  const query = expr.replaceAll("$__rate_interval", "10s").replaceAll("$job", ".*");
  const range = { start: String(begin), end: String(end), step: "1" };
  const response = await fetch(`${url}/api/v1/query_range?${new URLSearchParams({ query, ...range })}`);
  if (!response.ok) throw new Error(`${query}: ${await response.text()}`);
  const { data } = (await response.json()) as {
    data: { result: { metric: Record<string, string>; values: [number, string][] }[] };
  };
  return data.result.map(({ metric, values }) => ({
    name: legendFormat.replace(/\{\{(\w+)\}\}/g, (_all, label: string) => metric[label] ?? "").trim(),
    points: values
      .map(([time, value]) => [time - begin, Number(value)] as const)
      .filter(([, value]) => Number.isFinite(value)),
  }));
}
