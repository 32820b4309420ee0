import { setImmediate as turn } from "node:timers/promises";
import { expect, it } from "vitest";
import { listen } from "../../dev/demo/listen.ts";
import { limitUnsent, sendResponse } from "../../src/aggregation/http.ts";
import { boundedFetch } from "../../src/aggregation/member-transport.ts";
import { createApp } from "../../src/server/http/public-endpoint.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { responded, withSession } from "./raw-client.ts";
import { rawMember } from "./raw-member.ts";
import { startReplicas } from "./replicas.ts";

const wait = { timeout: 60_000 };
const mebibyte = 1024 * 1024;
const bytes = (text: string) => new TextEncoder().encode(text);

/** A stream of a member, as its transport reads it. */
async function streamOf(chunks: (read: number) => string | undefined) {
  const source = { read: 0, cancelled: false };
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const next = chunks(source.read);
        source.read += 1;
        if (next === undefined) controller.close();
        else controller.enqueue(bytes(next));
      },
      cancel() {
        source.cancelled = true;
      },
    },
    { highWaterMark: 0 },
  );
  const headers = { "content-type": "text/event-stream" };
  const fetchStream = boundedFetch(async () => new Response(body, { headers }), {}, "wanted");
  return { source, response: await fetchStream("https://member.test/") };
}

it.each([
  ["an endless line", "data: ", "x".repeat(64 * 1024)],
  ["an event of endless lines", "data: 1\r\n", "data: 1\r\n".repeat(8 * 1024)],
])("the stream of a member that sends %s ends", async (_what, first, next) => {
  const { source, response } = await streamOf((read) => (read === 0 ? first : next));
  await expect(response.text()).rejects.toThrow("longer than 2097152 bytes");
  expect([source.cancelled, source.read < 64]).toEqual([true, true]);
});

it.each(["\n", "\r", "\r\n"])("events that end with %j are counted one by one", async (end) => {
  const event = `data: ${"x".repeat(mebibyte)}${end}${end}`;
  const { response } = await streamOf((read) => (read < 3 ? event : undefined));
  expect((await response.text()).length).toBe(3 * event.length);
});

it("a member that sends more messages than a client can use is read later", async () => {
  const { source, response } = await streamOf(() => "data: {}\n\n".repeat(10_000));
  const reader = response.body?.getReader();
  expect((await reader?.read())?.done).toBe(false);
  const next = reader?.read();
  for (let turns = 0; turns < 100; turns += 1) await turn();
  expect(source.read).toBe(1);
  await reader?.cancel();
  expect([await next, source.cancelled]).toEqual([{ done: true, value: undefined }, true]);
});

it("what waits for a client is bounded", async () => {
  let sent = 0;
  let cancelled = false;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      sent += 1;
      controller.enqueue(new Uint8Array(mebibyte));
      if (sent > 50) controller.close();
    },
    cancel() {
      cancelled = true;
    },
  });
  const full = Promise.withResolvers<void>();
  const limited = limitUnsent(new Response(endless), full.resolve);
  await full.promise;
  await expect(limited.arrayBuffer()).rejects.toThrow("does not read");
  expect([cancelled, sent < 10]).toEqual([true, true]);
});

it("the stream of a client that does not read ends, and with it those of the members", async () => {
  const params = { level: "info", data: "x".repeat(100_000) };
  const line = `data: ${JSON.stringify({ jsonrpc: "2.0", method: "notifications/message", params })}\n\n`;
  const member = await rawMember((stream) => {
    for (let messages = 0; messages < 40; messages += 1) stream.write(line);
  });
  const ids = ["a", "b", "c", "d", "e", "f"];
  const replicas = await startReplicas(ids.map((id) => ({ id, url: member.url })));
  const client = await withSession(replicas);
  await (await client.post({ method: "tools/list" })).text();
  const stream = await responded(client.send("GET"));
  stream.on("error", () => {});
  const ended = async () =>
    (await replicas.metrics.limitsReached.get()).values.find(
      ({ labels }) => labels.limit === "aggregation_unsent_bytes",
    )?.value;
  await expect.poll(ended, wait).toBe(1);
  await expect.poll(() => member.streams.size, wait).toBe(0);
  stream.destroy();
  await replicas.close();
  await member.close();
});

it("a client that reads slowly costs no more with every message", async () => {
  const listeners: number[] = [];
  const app = createApp(createLogger({ level: "silent" }));
  app.use(async (ctx) => {
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        listeners.push(ctx.res.listenerCount("close"));
        if (listeners.length > 20) controller.close();
        else controller.enqueue(new Uint8Array(mebibyte));
      },
    });
    await sendResponse(ctx, new Response(body, { headers: { "content-type": "text/event-stream" } }));
  });
  const server = await listen(app.callback());
  expect((await (await fetch(server.url)).arrayBuffer()).byteLength).toBe(20 * mebibyte);
  expect(listeners.at(-1)).toBeLessThanOrEqual((listeners[1] ?? 0) + 1);
  await server.close();
});
