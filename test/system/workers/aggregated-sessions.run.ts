import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type AggregateStack, startAggregateStack } from "../aggregation/aggregate-stack.ts";
import { answers, type TestClient } from "../aggregation/clients.ts";
import type { Member } from "../aggregation/members/member.ts";
import { sessionsMember } from "../aggregation/members/sessions-member.ts";

/* Two workers behind Envoy without affinity: it sends the requests of a session to both, in turn. */
describe("a session with an aggregated route whose requests reach both workers", () => {
  const poll = { timeout: 60_000 };
  let folder: string;
  let member: Member;
  let stack: AggregateStack;
  let client: TestClient;
  const log = () => readFileSync(stack.sidecar().logFile, "utf8");

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "worker-sessions-"));
    member = await sessionsMember("notes");
    const listen = { grpc: `unix:${join(folder, "grpc.sock")}`, http: `unix:${join(folder, "http.sock")}` };
    stack = await startAggregateStack({
      members: { notes: { member } },
      aggregates: { "all.test": { routes: ["notes"] } },
      affinity: false,
      config: (config) => ({ ...config, workers: 2, listen: { ...Object(config.listen), ...listen } }),
    });
  });
  afterAll(async () => {
    await stack?.close();
    await member?.close();
    await rm(folder, { recursive: true, force: true });
  });

  it("calls tools within one session of the member", async () => {
    await expect.poll(log, poll).toContain("all workers are ready");
    client = await stack.connect("2025-06-18");
    expect((await client.call("notes__whoami")).text).toBe("notes");
    const initialized = () => member.requests.filter(({ body }) => body.includes('"initialize"')).length;
    const before = initialized();
    await Promise.all(Array.from({ length: 20 }, () => client.call("notes__whoami")));
    expect(initialized()).toBe(before);
  });

  it("answers questions, whichever worker gets the answer", async () => {
    for (let n = 0; n < 4; n++)
      expect(JSON.parse((await client.call("notes__ask")).text)).toEqual({
        action: "accept",
        content: answers.content,
      });
  });

  it("cancels calls, whichever worker gets the cancellation", async () => {
    for (let n = 0; n < 4; n++) {
      const before = member.cancelled();
      const abort = new AbortController();
      const call = client.call("notes__wait", {}, { signal: abort.signal });
      call.catch(() => {});
      await member.waiting();
      abort.abort();
      await expect(call).rejects.toThrow();
      await expect.poll(() => member.cancelled(), poll).toBe(before + 1);
    }
  });
});
