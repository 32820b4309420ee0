import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connect } from "../system/aggregation/clients.ts";
import type { Member } from "../system/aggregation/members/member.ts";
import { modernMember } from "../system/aggregation/members/modern-member.ts";
import { sessionsMember, sseMember } from "../system/aggregation/members/sessions-member.ts";
import { startReplicas, type TestReplicas } from "./replicas.ts";

const members: Record<string, Member> = {};
let replicas: TestReplicas;

beforeAll(async () => {
  members.notes = await sessionsMember("notes");
  members.modern = await modernMember("modern");
  members.sse = await sseMember("sse");
  replicas = await startReplicas(
    Object.entries(members).map(([id, { url }]) => ({ id, url })),
    { count: 2 },
  );
});
afterAll(async () => {
  await replicas.close();
  for (const member of Object.values(members)) await member.close();
});

const client = (kind: "2025-11-25" | "2026-07-28", token = replicas.token) =>
  connect(kind, { url: replicas.url(), token, fetch: replicas.roundRobin });

describe.each(["2025-11-25", "2026-07-28"] as const)("a client of %s", (kind) => {
  it("does not notice that a member has forgotten its sessions", async () => {
    const person = await client(kind);
    expect((await person.call("notes__whoami")).text).toBe("notes");
    await members.notes?.forgetSessions();
    expect((await person.call("notes__whoami")).text).toBe("notes");
    await person.close();
  });

  it.each(["fails", "answers garbage"] as const)("keeps the other members when one %s", async (behavior) => {
    const person = await client(kind);
    members.notes?.behave(behavior);
    try {
      const names = await person.toolNames();
      expect(names).toContain("modern__whoami");
      expect(names.filter((name) => name.startsWith("notes__"))).toEqual([]);
      await expect(person.call("notes__whoami")).rejects.toThrow(/notes (?:is not|rejected|cannot)/);
      expect((await person.call("modern__whoami")).text).toBe("modern");
    } finally {
      members.notes?.behave("serves");
      await person.close();
    }
  });

  it("calls a member with the transport of 2024-11-05", async () => {
    const person = await client(kind);
    expect(await person.toolNames()).toContain("sse__whoami");
    expect((await person.call("sse__whoami")).text).toBe("sse");
    await person.close();
  });

  it("gets errors of members with their code", async () => {
    const person = await client(kind);
    await expect(person.read("notes+memo://unknown")).rejects.toMatchObject({ code: -32602 });
    await expect(person.call("nobody__tool")).rejects.toMatchObject({ code: -32602 });
    await person.close();
  });
});

it("ends a session for its client only", async () => {
  const [alice, also] = [await client("2025-11-25"), await client("2025-11-25")];
  const { url } = replicas;
  const post = (session: string, token: string, path = url()) =>
    fetch(path, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "mcp-session-id": session,
      },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method: "tools/call",
        params: { name: "notes__whoami" },
      }),
    });
  const session = String(alice.sessionId());
  expect((await post(session, "alice/g1")).status).toBe(200);
  for (const token of ["bob/g1", "alice/g2"]) expect((await post(session, token)).status).toBe(404);
  expect((await post("unknown", "alice/g1")).status).toBe(404);
  const unchecked = await fetch(url(), { method: "POST", body: "{}" });
  expect(unchecked.status).toBe(403);
  await alice.end();
  expect((await post(session, "alice/g1", url(1))).status).toBe(404);
  expect((await also.call("notes__whoami")).text).toBe("notes");
  await also.close();
});
