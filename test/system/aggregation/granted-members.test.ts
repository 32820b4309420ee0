import { parse } from "node-html-parser";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type AggregateStack, startAggregateStack } from "./aggregate-stack.ts";
import type { TestClient } from "./clients.ts";
import type { Member } from "./members/member.ts";
import { sessionsMember } from "./members/sessions-member.ts";

const portal = "https://auth.test/.pomerium/routes";
const poll = { timeout: 60_000 };

/** A client is served the members that its user has allowed for it, and no others; through Envoy. */
describe("members of an aggregated route that a user has allowed", () => {
  let stack: AggregateStack;
  let members: readonly Member[];
  let client: TestClient;
  beforeAll(async () => {
    const [notes, tickets] = [await sessionsMember("notes"), await sessionsMember("tickets")];
    members = [notes, tickets];
    stack = await startAggregateStack({
      members: {
        notes: { member: notes, route: { name: "Notes" } },
        tickets: { member: tickets, route: { name: "Tickets" } },
      },
      aggregates: { "all.test": { routes: ["notes", "tickets", "everything"] } },
    });
    client = await stack.connect("2025-11-25");
  }, 240_000);
  afterAll(async () => {
    await stack?.close();
    for (const member of members ?? []) await member.close();
  });

  /** Removes a member from the first application of the user in the portal. */
  async function remove(member: string): Promise<void> {
    const browser = stack.browser("alice");
    const page = await browser.open(portal);
    const forms = parse(page.html).querySelectorAll(".removable form");
    const form = forms.find((one) => one.querySelector('[name="member"]')?.getAttribute("value") === member);
    expect((await browser.submit({ ...page, html: String(form) }, {})).status).toBe(200);
  }

  it("one that the user removes in the portal is no longer served to that application, and to others still is", async () => {
    const bobs = await stack.connect("2025-11-25", { user: "bob" });
    expect(await client.toolNames()).toEqual(expect.arrayContaining(["notes__whoami", "tickets__whoami"]));
    await remove("tickets");
    await expect.poll(() => client.toolNames(), poll).not.toContain("tickets__whoami");
    expect(await client.toolNames()).toEqual(expect.arrayContaining(["notes__whoami", "tickets__connect"]));
    expect((await client.call("notes__whoami")).text).toBe("notes");
    const denied = await client.call("tickets__whoami").catch((error: Error) => ({ text: error.message }));
    expect(denied.text).not.toBe("tickets");
    expect((await bobs.call("tickets__whoami")).text).toBe("tickets");
  });

  it("and is served again after the user, and nobody else, has opened the link that the client gets", async () => {
    const { text } = await client.call("tickets__connect");
    const link = /https:\/\/auth\.test\/\S+/.exec(text)?.[0] ?? "";
    const stranger = await stack.browser("bob").open(link);
    expect(stranger.status).toBe(403);
    const page = await stack.browser("alice").open(link);
    expect(page.html).toContain("Tickets");
    await stack.browser("alice").submit(page, {}, "decision=allow");
    await expect.poll(() => client.toolNames(), poll).toContain("tickets__whoami");
    expect((await client.call("tickets__whoami")).text).toBe("tickets");
  });

  it.each([
    ["2025-11-25", "alice", "ally"],
    ["2026-07-28", "bob", "bobby"],
  ] as const)(
    "a client of %s gets the result of its call although the server no longer accepts the token, and the link in the first call after all are revoked",
    async (kind, user, account) => {
      const person = await stack.connect(kind, { user });
      expect((await person.call("everything__whoami")).text).toBe(account);
      await stack.upstream.killAccessTokens(account);
      expect((await person.call("everything__whoami")).text).toBe(account);

      await stack.upstream.revokeGrants(account);
      const call = person.call("everything__whoami");
      if (kind === "2025-11-25") {
        await expect(call).rejects.toMatchObject({
          code: -32042,
          data: { elicitations: [{ mode: "url", message: "Connect Everything to continue" }] },
        });
      } else {
        // The user accepts, and does not finish.
        expect(await call).toMatchObject({
          isError: true,
          text: expect.stringContaining("try again: https"),
        });
        expect(person.asked.map(({ params }) => params.message)).toEqual(["Connect Everything to continue"]);
      }
    },
  );

  it("a service account gets those that its operator names", async () => {
    const printed = await stack.command(
      ...["service-accounts", "create", "ci", "--route", "all-all", "--route", "notes"],
    );
    const token = /^all-all (\S+)$/m.exec(printed)?.[1];
    const account = await stack.connect("2025-11-25", { token });
    const names = await account.toolNames();
    expect(names).toContain("notes__whoami");
    expect(names).not.toContain("tickets__whoami");
  });
});
