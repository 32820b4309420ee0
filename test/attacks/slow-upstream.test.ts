import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type E2e, startE2e } from "../support/e2e.ts";
import { openThroughEnvoy, throughEnvoy } from "../support/through-envoy.ts";

/** A tenant's MCP server that sends its tool list one byte per millisecond, and never ends it. */
let upstream: Server;
let sent = 0;
let stack: E2e;
beforeAll(async () => {
  upstream = createServer(async (request, response) => {
    if (request.method !== "POST") return void response.writeHead(405).end();
    const asked = JSON.parse(await text(request));
    const result = {
      protocolVersion: "2025-06-18",
      capabilities: { tools: {} },
      serverInfo: { name: "t", version: "1" },
    };
    if (asked.method === "initialize") {
      response.writeHead(200, { "content-type": "application/json" });
      return void response.end(JSON.stringify({ jsonrpc: "2.0", id: asked.id, result }));
    }
    if (asked.method !== "tools/list") return void response.writeHead(202).end();
    if (asked.id === "held") {
      response.writeHead(200, { "content-type": "application/json" });
      return void response.write(`{"pad":"${"x".repeat(1_900_000)}`);
    }
    if (asked.id === "whole") {
      response.writeHead(200, { "content-type": "application/json" });
      const tools = [{ name: "x" }, { name: "y" }];
      const body = JSON.stringify({ jsonrpc: "2.0", id: asked.id, result: { tools } });
      // In chunks, so that the sidecar has to buffer.
      for (const byte of body.slice(0, -1)) response.write(byte);
      return void response.end(body.slice(-1));
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`data: ${"x".repeat(900_000)}`);
    const timer = setInterval(() => {
      response.write("x");
      sent += 1;
    }, 1);
    response.on("close", () => clearInterval(timer));
  });
  upstream.listen(0, "127.0.0.1");
  await once(upstream, "listening");
  const to = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
  stack = await startE2e({
    names: ["tenant.test", "neighbour.test"],
    config: (config) => ({
      ...config,
      routes: [
        ...config.routes,
        {
          id: "tenant",
          from: "https://tenant.test",
          to,
          tools: { deny: ["x"] },
          mcp: { server: { upstream_auth: "none" } },
        },
        {
          id: "neighbour",
          from: "https://neighbour.test",
          to,
          tools: { deny: ["x"] },
          mcp: { server: { upstream_auth: "none" } },
        },
      ],
    }),
  });
});
afterAll(async () => {
  await stack?.close();
  upstream?.close();
  upstream?.closeAllConnections();
});

const metric = async (name: string) => {
  const metrics = await (await fetch(`${stack.adminUrl}/metrics`)).text();
  return Number(metrics.split(`\n${name} `)[1]?.split("\n")[0] ?? 0);
};

const askForTools = (token: string, id: number | string, url = "https://tenant.test/") => ({
  url,
  method: "POST",
  headers: {
    authorization: `Bearer ${token}`,
    "content-type": "application/json",
    accept: "application/json, text/event-stream",
  },
  body: JSON.stringify({ jsonrpc: "2.0", id, method: "tools/list" }),
});

test("single bytes from an upstream do not delay other routes", async () => {
  const others = await stack.externalToken("alice", stack.urls.open);
  const own = await stack.externalToken("bob", "https://tenant.test");
  const streams = await Promise.all(
    Array.from({ length: 8 }, () => openThroughEnvoy(stack, askForTools(own, 1))),
  );
  for (const stream of streams) stream.on("error", () => {}).resume();
  const before = sent;
  await expect.poll(() => sent - before, { timeout: 60_000 }).toBeGreaterThan(8_000);
  // Other routes' calls, and the total share of the thread's time.
  const startedAt = [await metric("process_cpu_seconds_total"), performance.now()] as const;
  for (let call = 0; call < 30; call++) {
    const answer = await throughEnvoy(stack, {
      url: "https://open.test/",
      method: "PATCH",
      headers: { authorization: `Bearer ${others}` },
    });
    expect(answer.status).not.toBe(503);
  }
  const whileServing = sent;
  await expect.poll(() => sent - whileServing, { timeout: 60_000 }).toBeGreaterThan(4_000);
  const seconds = (performance.now() - startedAt[1]) / 1000;
  const cpu = (await metric("process_cpu_seconds_total")) - startedAt[0];
  // Without the limit, one second of CPU time per second; a stalled machine only lowers it.
  expect(cpu / seconds).toBeLessThan(0.85);
  // They have used up their share and wait: their cost does not depend on how fast they send.
  expect(await metric('envoy_mcp_auth_limits_reached_total{limit="tool_list_work"}')).toBeGreaterThan(0);
  for (const stream of streams) stream.destroy();
});

test("endless lists use a limited amount of memory: further ones are ended, and other routes are served in the meantime", async () => {
  const own = await stack.externalToken("bob", "https://tenant.test");
  const limit = 'envoy_mcp_auth_limits_reached_total{limit="tool_list_bytes"}';
  const open = await Promise.all(
    Array.from({ length: 24 }, () => openThroughEnvoy(stack, askForTools(own, "held"))),
  );
  let ended = 0;
  for (const stream of open)
    stream
      .on("error", () => {})
      .on("close", () => {
        ended += 1;
      })
      .resume();
  await expect.poll(() => metric(limit), { timeout: 60_000 }).toBeGreaterThan(0);
  await expect.poll(() => ended, { timeout: 60_000 }).toBeGreaterThan(0);
  const neighbour = await stack.externalToken("bob", "https://neighbour.test");
  const asked = askForTools(neighbour, "whole", "https://neighbour.test/");
  expect((await throughEnvoy(stack, asked)).body).toContain('"tools":[{"name":"y"}]');
  for (const stream of open) stream.destroy();
  // Their memory is free again.
  const answer = async () => (await throughEnvoy(stack, askForTools(own, "whole"))).body;
  await expect.poll(answer, { timeout: 60_000 }).toContain('"tools":[{"name":"y"}]');
});
