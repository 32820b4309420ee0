import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type AggregateStack, startAggregateStack } from "./aggregate-stack.ts";
import { answers, type ClientKind, clientKinds, type TestClient } from "./clients.ts";
import type { Member } from "./members/member.ts";
import { modernMember } from "./members/modern-member.ts";
import { page } from "./members/samples.ts";
import { sessionsMember, sseMember, statelessMember } from "./members/sessions-member.ts";

const memberKinds = ["r2025-03", "r2025-06", "r2025-11", "r2026-07", "stateless", "sse"] as const;
type MemberKind = (typeof memberKinds)[number];

const start: Readonly<Record<MemberKind, () => Promise<Member>>> = {
  "r2025-03": () => sessionsMember("r2025-03", "2025-03-26"),
  "r2025-06": () => sessionsMember("r2025-06", "2025-06-18"),
  "r2025-11": () => sessionsMember("r2025-11", "2025-11-25"),
  "r2026-07": () => modernMember("r2026-07"),
  stateless: () => statelessMember("stateless"),
  sse: () => sseMember("sse"),
};

/** Whether both sides have a feature that came with this revision. */
function has(client: ClientKind, member: MemberKind, since: string): boolean {
  const ofMember: Readonly<Record<MemberKind, string>> = {
    "r2025-03": "2025-03-26",
    "r2025-06": "2025-06-18",
    "r2025-11": "2025-11-25",
    "r2026-07": "2026-07-28",
    // It cannot ask anything: it forgets a request when it has answered it.
    stateless: "2024-11-05",
    sse: "2025-03-26",
  };
  return client.slice(0, 10) >= since && ofMember[member] >= since;
}

let stack: AggregateStack;
const members = {} as Record<MemberKind, Member>;
const clients = {} as Record<ClientKind, TestClient>;
beforeAll(async () => {
  for (const kind of memberKinds) members[kind] = await start[kind]();
  stack = await startAggregateStack({
    members: Object.fromEntries(memberKinds.map((kind) => [kind, { member: members[kind] }])),
    aggregates: { "all.test": { routes: memberKinds } },
  });
  for (const kind of clientKinds) clients[kind] = await stack.connect(kind);
}, 180_000);
afterAll(async () => {
  await stack?.close();
  for (const member of Object.values(members)) await member.close();
});

describe.each(clientKinds)("a client of %s", (client) => {
  const call = (member: MemberKind, tool: string, ...rest: [object?, object?]) =>
    clients[client].call(`${member}__${tool}`, { ...rest[0] }, rest[1]);

  it("lists the tools of every member", async () => {
    expect(clients[client].revision()).toBe(client.slice(0, 10));
    const names = await clients[client].toolNames();
    for (const member of memberKinds) expect(names).toContain(`${member}__whoami`);
  });

  describe.each(memberKinds)("and a member of %s", (member) => {
    it("calls tools", async () => {
      expect(await call(member, "whoami")).toMatchObject({ text: member, isError: false });
      expect(await call(member, "echo", { text: "héllo" })).toMatchObject({ text: "héllo" });
      expect(await call(member, "broken")).toMatchObject({ text: "it broke", isError: true });
    });

    it.skipIf(member === "stateless")("gets progress", async () => {
      const seen: number[] = [];
      const onprogress = ({ progress }: { progress: number }) => seen.push(progress);
      expect((await call(member, "progress", {}, { onprogress })).text).toBe("done");
      await expect.poll(() => seen).toEqual([1, 2, 3]);
    });

    it.runIf(has(client, member, "2025-06-18"))("passes the user's answer on", async () => {
      const { asked } = clients[client];
      const before = asked.length;
      const { text } = await call(member, "ask");
      expect(JSON.parse(text)).toEqual({ action: "accept", content: answers.content });
      expect(asked.slice(before)).toMatchObject([{ method: "elicitation/create" }]);
      expect(String(asked[before]?.params.message)).toContain(`Who are you? asks ${member}`);
    });

    it.runIf(has(client, member, "2025-11-25"))("sends the user to a page", async () => {
      const { asked } = clients[client];
      const before = asked.length;
      expect(JSON.parse((await call(member, "ask_url")).text)).toEqual({ action: "accept" });
      expect(asked.slice(before)).toMatchObject([
        { method: "elicitation/create", params: { mode: "url", url: page } },
      ]);
    });

    it.runIf(has(client, member, "2025-03-26"))("asks the client's model", async () => {
      const { asked } = clients[client];
      const before = asked.length;
      expect(JSON.parse((await call(member, "sample")).text)).toEqual(answers.sampled.content);
      expect(asked.slice(before)).toMatchObject([{ method: "sampling/createMessage" }]);
    });

    it.runIf(has(client, member, "2025-03-26"))("asks for the client's roots", async () => {
      expect((await call(member, "roots")).text).toBe("file:///home/alice");
    });
  });
});
