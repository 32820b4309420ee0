import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ClientKind, connect, type TestClient } from "../system/aggregation/clients.ts";
import type { Member } from "../system/aggregation/members/member.ts";
import { sessionsMember, sseMember } from "../system/aggregation/members/sessions-member.ts";
import { startReplicas, type TestReplicas } from "./replicas.ts";

let member: Member;
let sessions: Member;
let replicas: TestReplicas;

beforeAll(async () => {
  member = await sseMember("old");
  sessions = await sessionsMember("sessions");
  replicas = await startReplicas(
    [
      { id: "old", name: "OLD", url: member.url },
      { id: "sessions", url: sessions.url },
    ],
    { count: 2 },
  );
});
afterAll(async () => {
  await replicas.close();
  await member.close();
  await sessions.close();
});

const kinds: readonly ClientKind[] = ["2025-11-25", "2026-07-28"];

// Each request goes to the other replica.
describe.each(kinds)("a member with the transport HTTP+SSE, and a client of %s", (kind) => {
  let client: TestClient;
  beforeAll(async () => {
    const { url, token, roundRobin } = replicas;
    client = await connect(kind, { url: url(), token, fetch: roundRobin });
  });
  afterAll(() => client?.close());

  it("lists and calls its tools", async () => {
    expect(await client.toolNames()).toContain("old__whoami");
    expect((await client.call("old__whoami")).text).toBe("old");
    expect((await client.call("old__echo", { text: "hello" })).text).toBe("hello");
    expect((await client.read("old+memo://one"))[0]?.text).toBe("one of old");
  });

  it("reports progress, and the member can ask during a call", async () => {
    const seen: number[] = [];
    const onprogress = ({ progress }: { progress: number }) => void seen.push(progress);
    expect((await client.call("old__progress", {}, { onprogress })).text).toBe("done");
    expect(seen).toEqual([1, 2, 3]);
    expect((await client.call("old__sample")).text).toContain("sampled");
  });

  it("is cancelled when the client cancels", async () => {
    const before = member.cancelled();
    const stop = new AbortController();
    const call = client.call("old__wait", {}, { signal: stop.signal });
    await Promise.race([member.waiting(), call]);
    stop.abort("enough");
    await expect(call).rejects.toThrow();
    await expect.poll(() => member.cancelled(), { timeout: 60_000 }).toBe(before + 1);
  });

  it("fails a call whose stream ends, and serves the next one", async () => {
    const call = client.call("old__wait");
    await Promise.race([member.waiting(), call]);
    await member.forgetSessions();
    await expect(call.then(({ isError }) => isError || "no error")).rejects.toThrow(/OLD/);
    expect((await client.call("old__whoami")).text).toBe("old");
  });
});

describe("a member is asked in the era of the client", () => {
  const methods = () => sessions.requests.flatMap(({ body }) => (body ? [JSON.parse(body).method] : []));

  it("2025-11-25: without server/discover, although the sidecar knows newer revisions", async () => {
    const before = methods().length;
    const client = await connect("2025-11-25", { url: replicas.url(), token: replicas.token, fetch });
    expect((await client.call("sessions__whoami")).text).toBe("sessions");
    await client.close();
    const asked = methods().slice(before);
    expect(asked).toContain("initialize");
    expect(asked).not.toContain("server/discover");
  });

  it("2026-07-28: with server/discover first", async () => {
    const client = await connect("2026-07-28", { url: replicas.url(), token: replicas.token, fetch });
    expect((await client.call("sessions__whoami")).text).toBe("sessions");
    await client.close();
    expect(methods()).toContain("server/discover");
  });
});
