import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ClientKind, connect } from "../system/aggregation/clients.ts";
import type { Member } from "../system/aggregation/members/member.ts";
import { sessionsMember, statelessMember } from "../system/aggregation/members/sessions-member.ts";
import { startReplicas, type TestMember, type TestReplicas } from "./replicas.ts";

const wait = { timeout: 60_000 };
let notes: Member;
let plain: Member;
let replicas: TestReplicas;
let members: [TestMember, TestMember];

beforeAll(async () => {
  [notes, plain] = await Promise.all([sessionsMember("notes"), statelessMember("plain")]);
  members = [
    { id: "notes", name: "Notes", url: notes.url },
    { id: "plain", url: plain.url },
  ];
  replicas = await startReplicas(members, { count: 2 });
});
afterAll(async () => {
  await replicas.close();
  await notes.close();
  await plain.close();
});

function client(kind: ClientKind, without: readonly ("elicitation" | "sampling" | "roots")[] = []) {
  return connect(kind, { url: replicas.url(), token: replicas.token, fetch: replicas.roundRobin, without });
}

describe.each(["2025-11-25", "2025-11-25, second SDK", "2026-07-28"] as const)("a client of %s", (kind) => {
  it.each(["connected", "granted"] as const)(
    "gets one tool for a member that is not %s, and its tools after",
    async (what) => {
      members[0][what] = false;
      const person = await client(kind);
      expect((await person.toolNames()).filter((name) => name.startsWith("notes__"))).toEqual([
        "notes__connect",
      ]);
      await person.follow();
      const asked = await person.call("notes__connect");
      expect(asked).toMatchObject({ isError: false });
      const link = /https:\/\/auth\.test\/consent\/all-notes-\d+/;
      expect(asked.text).toMatch(link);
      const question = person.asked.find(({ params }) => params.mode === "url");
      expect(question?.params.message).toBe("Connect Notes to continue");
      expect(question?.params.url).toMatch(link);

      members[0][what] = true;
      const changed = () =>
        person.notified.some(({ method }) => method === "notifications/tools/list_changed");
      await expect.poll(changed, wait).toBe(true);
      expect(await person.toolNames()).toContain("notes__whoami");
      expect((await person.call("notes__connect")).text).toContain("Notes is connected");
      await person.close();
    },
  );

  it("is asked to open the link when a member loses its connection in the middle of a session", async () => {
    const person = await client(kind);
    expect((await person.call("notes__whoami")).text).toBe("notes");
    members[0].connected = false;
    const call = person.call("notes__whoami");
    if (kind === "2026-07-28") {
      await expect.poll(() => person.asked.at(-1)?.params.message).toBe("Connect Notes to continue");
      members[0].connected = true;
      await call.catch(() => {});
    } else {
      await expect(call).rejects.toMatchObject({
        code: -32042,
        data: { elicitations: [{ mode: "url", message: "Connect Notes to continue" }] },
      });
      members[0].connected = true;
    }
    expect((await person.call("notes__whoami")).text).toBe("notes");
    await person.close();
  });
});

it("is asked to open the link by each request for a member that the user has removed, or that lost its connection", async () => {
  const person = await client("2025-11-25");
  const [{ uri } = { uri: "" }] = (await person.listResources()).filter((one) => one.uri.includes("notes"));
  const shortened = (await person.toolNames()).find((name) => name.startsWith("notes__long_")) ?? "";
  const needed = { code: -32042, message: expect.stringContaining("Notes is not connected") };
  try {
    for (const what of ["granted", "connected"] as const) {
      members[0][what] = false;
      await expect(person.call("notes__whoami")).rejects.toMatchObject(needed);
      await expect(person.call(shortened)).rejects.toMatchObject(needed);
      await expect(person.getPrompt("notes__greet", { city: "paris" })).rejects.toMatchObject(needed);
      await expect(person.read(uri)).rejects.toMatchObject(needed);
      await expect(person.follow(uri)).rejects.toMatchObject(needed);
      members[0][what] = true;
    }
  } finally {
    members[0].granted = members[0].connected = true;
    await person.close();
  }
});

it("gives the link in the result to a client that cannot open it", async () => {
  const person = await client("2025-06-18");
  members[0].connected = false;
  expect(await person.call("notes__whoami")).toMatchObject({
    isError: true,
    text: expect.stringContaining("https://auth.test/consent/"),
  });
  expect((await person.call("plain__whoami")).text).toBe("plain");
  members[0].connected = true;
  await person.close();
});
