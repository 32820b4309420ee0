import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { clientKinds, connect, type TestClient } from "../system/aggregation/clients.ts";
import type { Member } from "../system/aggregation/members/member.ts";
import { modernMember } from "../system/aggregation/members/modern-member.ts";
import { sessionsMember, statelessMember } from "../system/aggregation/members/sessions-member.ts";
import { startReplicas, type TestReplicas } from "./replicas.ts";

const started: { members: Record<string, Member>; replicas: TestReplicas } = {
  members: {},
  replicas: undefined!,
};

beforeAll(async () => {
  const [old, notes, plain, modern] = await Promise.all([
    sessionsMember("old", "2025-03-26"),
    sessionsMember("notes"),
    statelessMember("plain"),
    modernMember("modern"),
  ]);
  started.members = { old, notes, plain, modern };
  started.replicas = await startReplicas(
    Object.entries(started.members).map(([id, { url }]) => ({ id, url })),
    { count: 2 },
  );
});
afterAll(async () => {
  await started.replicas.close();
  for (const member of Object.values(started.members)) await member.close();
});

describe.each(clientKinds)("a client of %s", (kind) => {
  let client: TestClient;
  beforeAll(async () => {
    const { url, token, roundRobin } = started.replicas;
    client = await connect(kind, { url: url(), token, fetch: roundRobin });
  });
  afterAll(() => client.close());

  it("sees the tools of all members, with prefixes", async () => {
    const names = await client.toolNames();
    for (const id of Object.keys(started.members)) expect(names).toContain(`${id}__whoami`);
    for (const name of names) expect(name).toMatch(/^[A-Za-z0-9_-]{1,64}$/);
    expect(new Set(names).size).toBe(names.length);
  });

  it("calls tools of each member", async () => {
    for (const id of Object.keys(started.members)) expect((await client.call(`${id}__whoami`)).text).toBe(id);
  });
});
