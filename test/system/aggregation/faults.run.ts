import { readFile, writeFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import type { User } from "../../support/e2e.ts";
import { type AggregateStack, startAggregateStack } from "./aggregate-stack.ts";
import type { TestClient } from "./clients.ts";
import type { Behavior, Member } from "./members/member.ts";
import { modernMember } from "./members/modern-member.ts";
import { sessionsMember } from "./members/sessions-member.ts";

/* What one member's faults mean to the others, and to itself when they are over. `everything` needs a token of its own server. */
const poll = { timeout: 60_000 };
/** Each with its own user: the gateway does not ask the same user twice for the same permissions within a minute. */
const kinds = [
  ["2025-11-25", "alice", "ally"],
  ["2026-07-28", "bob", "bobby"],
] as const;
let stack: AggregateStack;
let members: Readonly<Record<"good" | "old" | "new", Member>>;
beforeAll(async () => {
  members = {
    good: await sessionsMember("good"),
    old: await sessionsMember("old", "2025-06-18"),
    new: await modernMember("new"),
  };
  stack = await startAggregateStack({
    members: {
      good: { member: members.good, route: { name: "Good" } },
      old: { member: members.old, route: { name: "Old" } },
      new: { member: members.new, route: { name: "New" } },
    },
    aggregates: { "all.test": { routes: ["good", "old", "new", "everything"] } },
  });
}, 180_000);
afterAll(async () => {
  await stack?.close();
  for (const member of Object.values(members ?? {})) await member.close();
});
afterEach(() => {
  for (const member of Object.values(members)) member.behave("serves");
});

/** A user opens a link in their browser and agrees to everything. */
async function browse(user: User, url: string): Promise<void> {
  const browser = stack.browser(user);
  await browser.agree(await browser.open(url), stack.signIn(user));
}

/** The result's text, or the error's. */
const called = (client: TestClient, name: string) => client.call(name).then(({ text }) => text, String);

async function expectGoodServed(client: TestClient): Promise<void> {
  expect(await called(client, "good__whoami")).toBe("good");
}

describe.each(kinds)("a client of %s", (kind, user, account) => {
  let client: TestClient;
  beforeAll(async () => {
    client = await stack.connect(kind, {
      user,
      answer: async ({ mode, url }) => {
        if (mode === "url") await browse(user, String(url));
        return "accept";
      },
    });
    expect(await called(client, "everything__echo")).toContain("message");
  });

  describe.each(["old", "new"] as const)("and the member %s", (bad) => {
    const behaviors: readonly Behavior[] = ["hangs", "answers garbage", "fails"];
    it.each([...behaviors, "is down"] as const)(
      "%s: the others are served, and it is when it is back",
      async (behavior) => {
        expect(await called(client, `${bad}__whoami`)).toBe(bad);
        if (behavior === "is down") await members[bad].stop();
        else members[bad].behave(behavior);
        try {
          await expectGoodServed(client);
          const names = await client.toolNames();
          expect(names).toContain("good__whoami");
          expect(names).not.toContain(`${bad}__whoami`);
          // A new client is not held up by it either.
          const another = await stack.connect(kind, { user });
          await expectGoodServed(another);
          if (behavior !== "hangs") {
            const failure = await called(client, `${bad}__whoami`);
            expect(failure).toContain(bad === "old" ? "Old" : "New");
            expect(failure).not.toMatch(/127\.0\.0\.1|ECONN|at \//);
          }
        } finally {
          if (behavior === "is down") await members[bad].start();
          members[bad].behave("serves");
        }
        await expect.poll(() => called(client, `${bad}__whoami`), poll).toBe(bad);
        await expect.poll(() => client.toolNames(), poll).toContain(`${bad}__whoami`);
      },
    );

    it("hangs in a call: calls of others are answered in the meantime, and the call can be cancelled", async () => {
      const abort = new AbortController();
      const waits = client.call(`${bad}__wait`, {}, { signal: abort.signal });
      waits.catch(() => {});
      await members[bad].waiting();
      await Promise.all(Array.from({ length: 10 }, () => expectGoodServed(client)));
      abort.abort();
      await expect(waits).rejects.toThrow();
    });

    it("changes its tools: a call of one that is gone fails, and no other server gets it", async () => {
      const before = members.good.requests.length;
      members[bad].changeTools();
      expect(await called(client, `${bad}__added`)).toBe("added");
      await expect.poll(() => client.toolNames(), poll).toContain(`${bad}__added`);
      members[bad].changeTools();
      expect(await called(client, `${bad}__added`)).not.toBe("added");
      await expect.poll(() => client.toolNames(), poll).not.toContain(`${bad}__added`);
      const since = members.good.requests.slice(before);
      expect(since.filter(({ body }) => body.includes('"tools/call"'))).toEqual([]);
    });
  });

  it("does not notice that a member has forgotten its session", async () => {
    expect(await called(client, "old__whoami")).toBe("old");
    await members.old.forgetSessions();
    expect(await called(client, "old__whoami")).toBe("old");
    await members.old.forgetSessions();
    expect(await client.toolNames()).toContain("old__whoami");
    await members.old.forgetSessions();
    const { uri = "" } = (await client.listResources()).find((one) => /old.*one/.test(one.uri)) ?? {};
    expect(await client.read(uri)).toMatchObject([{ text: "one of old" }]);
  });

  it("gets the link when a server requires more in the middle of a call; the next call passes", async () => {
    await stack.command("connections", "revoke", "--user", `company/${user}`, "--route", "everything");
    await connectEverything();
    expect(await called(client, "everything__whoami")).toBe(account);
    const asked = client.asked.length;
    const failure = await client.call("everything__write_note").catch((error: unknown) => error);
    if (kind === "2025-11-25") {
      // MCP 2025-11-25, "URL Elicitation Required": error -32042 with the links.
      expect(failure).toMatchObject({ code: -32042, data: { elicitations: [{ mode: "url" }] } });
      const [{ url, message }] = Object(failure).data.elicitations;
      expect(message).toContain("Everything");
      await browse(user, url);
      expect(await called(client, "everything__write_note")).toBe("written");
    } else {
      expect(failure).toMatchObject({ text: "written" });
      expect(client.asked.slice(asked)).toMatchObject([{ params: { mode: "url" } }]);
    }
  });

  it("loses one server when the person disconnects it, and gets it back by its connect tool", async () => {
    expect(await called(client, "everything__whoami")).toBe(account);
    await stack.command("connections", "revoke", "--user", `company/${user}`, "--route", "everything");
    await expect.poll(() => client.toolNames(), poll).toContain("everything__connect");
    expect(await client.toolNames()).not.toContain("everything__whoami");
    await expectGoodServed(client);
    await connectEverything();
    expect(await called(client, "everything__whoami")).toBe(account);
    expect(await client.toolNames()).not.toContain("everything__connect");
  });

  it("loses and regains a member when its policy changes, without a new session", async () => {
    const before = await readFile(stack.configFile, "utf8");
    const changed = parse(before);
    for (const route of changed.routes)
      if (route.id === "old") route.policy = [{ allow: { and: [{ email: { is: "nobody@example.com" } }] } }];
    await writeFile(stack.configFile, stringify(changed));
    try {
      await expect.poll(() => client.toolNames(), poll).not.toContain("old__whoami");
      expect(await called(client, "old__whoami")).not.toBe("old");
      expect(await client.toolNames()).not.toContain("old__connect");
      await expectGoodServed(client);
    } finally {
      await writeFile(stack.configFile, before);
    }
    await expect.poll(() => called(client, "old__whoami"), poll).toBe("old");
  });

  it("is served while the person's other sessions end; its own ends with its grant", async () => {
    const another = await stack.connect(kind, { user });
    if (another.sessionId() !== undefined) await another.end();
    await expectGoodServed(client);
  });

  /** With the tool that stands for a server which is not connected. */
  async function connectEverything(): Promise<void> {
    await expect.poll(() => client.toolNames(), poll).toContain("everything__connect");
    await client.call("everything__connect");
    await expect.poll(() => client.toolNames(), poll).toContain("everything__whoami");
  }
});
