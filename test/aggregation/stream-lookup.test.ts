import { expect, it } from "vitest";
import { ClientStream, type ClientStreamDeps } from "../../src/aggregation/client-stream.ts";
import { ClientStreams } from "../../src/aggregation/client-streams.ts";
import type { Conversation } from "../../src/aggregation/conversation.ts";
import { hashedHandle } from "../../src/store/hashed-handle.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";

it("looking for a session's streams does not hash the handles of all that are open", () => {
  let read = 0;
  const table = {};
  // Streams that are never opened need no more.
  const onRoutesChanged = () => () => {};
  const deps = {
    routes: () => table,
    onRoutesChanged,
    metrics: createMetrics(),
  } as unknown as ClientStreamDeps;
  const streams = new ClientStreams(deps);
  const add = (name: string, grantId: string) => {
    const session = {
      get handle() {
        read += 1;
        return name;
      },
    };
    const conversation = { call: { caller: { grantId } }, session } as unknown as Conversation;
    const wants = { tools: true, prompts: true, resources: true, uris: [], opensSessions: true };
    const stream = new ClientStream(deps, conversation, wants, { send: () => {}, end: () => {} });
    streams.add(stream);
    return stream;
  };
  const open = Array.from({ length: 100 }, (_, at) => add(`session-${at}`, `grant-${at}`));
  const [first] = open;
  const before = read;
  for (let messages = 0; messages < 100; messages += 1)
    expect(streams.of(hashedHandle("session-0"))).toEqual([first]);
  expect(read).toBe(before);
  if (first) streams.remove(first);
  expect(streams.of(hashedHandle("session-0"))).toEqual([]);
  streams.close();
  expect(streams.of(hashedHandle("session-1"))).toEqual([]);
});
