import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { cpuTimes, parts } from "./cpu-time.ts";
import type { StdioPage } from "./stdio-page.ts";

const calls = 200;
const rounds = 3;
const ways = ["direct", "bridge", "gateway"] as const;
type Way = (typeof ways)[number];
const names: Record<Way, string> = {
  direct: "stdio directly",
  bridge: "bridge",
  gateway: "Envoy, check, bridge",
};
/** Of a machine that does much else. */
const patient = { timeout: 300_000 };

/**
 * Measures calls of `list_allowed_directories`, by one caller and by eight at once, each with a session and a process of its own: over stdio
 * directly, through the bridge, and through Envoy, the check and the bridge. Rounds alternate, after one that warms up; the median
 * round counts.
 * @returns tables in Markdown: milliseconds per call and calls per second; CPU time per call of each process
 */
export async function measureCost(page: StdioPage): Promise<string> {
  const clients: Record<Way, Client[]> = { direct: [], bridge: [], gateway: [] };
  const secrets = parseEnv(readFileSync(join(page.folder, "gateway/secrets.env"), "utf8"));
  const requestInit = { headers: { authorization: `Bearer ${secrets.MCP_BRIDGE_TOKEN}` } };
  const alice = await page.client("files");
  for (let count = 0; count < 8; count++) {
    const direct = new Client({ name: "cost", version: "1" });
    const args = ["-y", "@modelcontextprotocol/server-filesystem@2026.8.31", page.files];
    const stdio = new StdioClientTransport({ command: "npx", args, cwd: page.folder, stderr: "ignore" });
    await direct.connect(stdio, patient);
    const bridge = new Client({ name: "cost", version: "1" });
    await bridge.connect(
      new StreamableHTTPClientTransport(new URL(page.bridge("files")), { requestInit }),
      patient,
    );
    clients.direct.push(direct);
    clients.bridge.push(bridge);
    clients.gateway.push(await alice.connect());
  }
  const wall: string[] = [];
  let cpu: string[] = [];
  for (const callers of [1, 8]) {
    const results: Record<Way, Round[]> = { direct: [], bridge: [], gateway: [] };
    for (let round = 0; round < rounds + 1; round++)
      for (const way of ways) {
        const before = cpuTimes(page.folder);
        const result = await measured(clients[way].slice(0, callers));
        const after = cpuTimes(page.folder);
        if (way === "gateway") cpu = parts.map((part) => ((after[part] - before[part]) / calls).toFixed(1));
        // The first round warms up.
        if (round > 0) results[way].push(result);
      }
    for (const way of ways) {
      const { p50, p95, rate } = results[way].toSorted((a, b) => a.p50 - b.p50)[Math.floor(rounds / 2)] ?? {
        p50: Number.NaN,
        p95: Number.NaN,
        rate: Number.NaN,
      };
      wall.push(
        `| ${callers} | ${names[way]} | ${p50.toFixed(1)} | ${p95.toFixed(1)} | ${rate.toFixed(0)} |`,
      );
    }
  }
  for (const client of [...clients.direct, ...clients.bridge]) await client.close();
  return [
    "| callers at once | way | median, ms | 95th percentile, ms | calls per second |",
    "|--:|---|--:|--:|--:|",
    ...wall,
    "",
    `| CPU time per call, ms | ${parts.join(" | ")} |`,
    `|---|${parts.map(() => "--:").join("|")}|`,
    `| eight callers, whole way | ${cpu.join(" | ")} |`,
  ].join("\n");
}

interface Round {
  readonly p50: number;
  readonly p95: number;
  readonly rate: number;
}

async function measured(clients: readonly Client[]): Promise<Round> {
  const times: number[] = [];
  let left = calls;
  const began = performance.now();
  await Promise.all(
    clients.map(async (client) => {
      while (left-- > 0) {
        const start = performance.now();
        await client.callTool({ name: "list_allowed_directories", arguments: {} }, undefined, patient);
        times.push(performance.now() - start);
      }
    }),
  );
  const rate = (times.length / (performance.now() - began)) * 1000;
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.floor(times.length * share)] ?? Number.NaN;
  return { p50: at(0.5), p95: at(0.95), rate };
}
