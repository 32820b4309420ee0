import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type AggregateStack, startAggregateStack } from "./aggregate-stack.ts";
import { answers, type TestClient } from "./clients.ts";
import type { Member } from "./members/member.ts";
import { modernMember } from "./members/modern-member.ts";
import { longName, oddName, widget } from "./members/samples.ts";
import { sessionsMember } from "./members/sessions-member.ts";

/* One client of each era and one member of each, through Envoy. All combinations: matrix.run.ts (`make aggregation`). */
const kinds = ["2025-11-25", "2026-07-28"] as const;
const ids = ["notes", "tickets"] as const;
const poll = { timeout: 60_000 };

let stack: AggregateStack;
let members: Readonly<Record<(typeof ids)[number], Member>>;
const clients = new Map<string, TestClient>();
beforeAll(async () => {
  members = { notes: await sessionsMember("notes"), tickets: await modernMember("tickets") };
  stack = await startAggregateStack({
    members: {
      notes: { member: members.notes, route: { name: "Notes" } },
      tickets: { member: members.tickets, route: { name: "Tickets", tools: { deny: ["broken"] } } },
    },
    aggregates: { "all.test": { routes: ids } },
  });
  for (const kind of kinds) clients.set(kind, await stack.connect(kind));
}, 120_000);
afterAll(async () => {
  await stack?.close();
  for (const member of Object.values(members ?? {})) await member.close();
});

describe.each(kinds)("a client of %s at one URL for two servers", (kind) => {
  let client: TestClient;
  beforeAll(() => {
    const found = clients.get(kind);
    if (!found) throw new Error("not connected");
    client = found;
  });

  it("sees all tools under names that say whose they are, and calls them", async () => {
    const tools = await client.listTools();
    const names = tools.map(({ name }) => name);
    for (const name of names) expect(name).toMatch(/^(notes|tickets)__[A-Za-z0-9_-]+$/);
    expect(names.filter((name) => name.length > 64)).toEqual([]);
    expect(new Set(names).size).toBe(names.length);
    for (const id of ids) {
      expect((await client.call(`${id}__whoami`)).text).toBe(id);
      expect((await client.call(`${id}__measure`)).structuredContent).toEqual({ value: 42 });
      const shortened = names.filter((name) => name.startsWith(`${id}__long_`));
      const odd = names.filter((name) => name.startsWith(`${id}__odd`));
      expect([shortened, odd]).toEqual([[expect.any(String)], [expect.any(String)]]);
      expect((await client.call(String(shortened[0]))).text).toBe(`long ${id}`);
      expect((await client.call(String(odd[0]))).text).toBe(`odd ${id}`);
      expect(names).not.toContain(id + longName);
      expect(names).not.toContain(`${id}__${oddName}`);
    }
    expect(client.instructions).toContain("Instructions of notes");
    expect(client.instructions).toContain("Instructions of tickets");
  });

  it("neither sees nor can call a tool that the server's route denies", async () => {
    const names = await client.toolNames();
    expect(names).toContain("notes__broken");
    expect(names).not.toContain("tickets__broken");
    await expect(client.call("tickets__broken")).rejects.toThrow(
      '[Tickets] The tool "broken" is not allowed',
    );
  });

  it("gets progress, and the server's name with each question", async () => {
    for (const id of ids) {
      const seen: number[] = [];
      const onprogress = ({ progress }: { progress: number }) => seen.push(progress);
      await client.call(`${id}__progress`, {}, { onprogress });
      await expect.poll(() => seen, poll).toEqual([1, 2, 3]);

      const before = client.asked.length;
      expect(JSON.parse((await client.call(`${id}__ask`)).text)).toEqual({
        ...{ action: "accept", content: answers.content },
      });
      expect(JSON.parse((await client.call(`${id}__sample`)).text)).toEqual(answers.sampled.content);
      expect((await client.call(`${id}__roots`)).text).toBe("file:///home/alice");
      const [form, sampling] = client.asked.slice(before);
      const name = id === "notes" ? "Notes" : "Tickets";
      expect(form?.params.message).toBe(`[${name}] Who are you? asks ${id}`);
      expect(JSON.stringify(sampling?.params)).toContain(`[${name}]`);
    }
  });

  it("reads resources, also those of apps and those that results name, and completes", async () => {
    const resources = await client.listResources();
    const templates = await client.listTemplates();
    for (const id of ids) {
      const { content } = await client.call(`${id}__link`);
      const [embedded, link] = content.map((one) => Object(one.resource ?? one).uri as string);
      expect(resources.map(({ uri }) => uri)).toContain(embedded);
      expect(await client.read(String(embedded))).toMatchObject([{ uri: embedded, text: `one of ${id}` }]);
      expect(await client.read(String(link))).toMatchObject([{ uri: link, text: `note 7 of ${id}` }]);

      const tools = await client.listTools();
      const { ui } = Object(tools.find(({ name }) => name === `${id}__link`)?._meta);
      expect(ui.resourceUri).toMatch(/^ui:\/\//);
      expect(await client.read(ui.resourceUri)).toMatchObject([{ uri: ui.resourceUri, text: widget.html }]);

      const template = templates.find(({ uriTemplate }) => uriTemplate.includes(id))?.uriTemplate ?? "";
      const ref = { type: "ref/resource", uri: template } as const;
      expect(await client.complete(ref, { name: "id", value: "7" })).toEqual(["7", "77"]);
      expect(await client.read(template.replace("{id}", "8"))).toMatchObject([{ text: `note 8 of ${id}` }]);
      const prompt = { type: "ref/prompt", name: `${id}__greet` } as const;
      expect(await client.complete(prompt, { name: "city", value: "par" })).toEqual([
        "paris",
        "park",
        "party",
      ]);
      expect(await client.getPrompt(`${id}__greet`, { city: "paris" })).toBe(`${id}: paris`);
    }
  });

  it("is notified of changed lists and resources, of each server", async () => {
    const resources = await client.listResources();
    for (const id of ids) {
      const uri = resources.find((one) => one.name === "one" && one.uri.includes(id))?.uri ?? "";
      await client.follow(uri);
      const before = client.notified.length;
      const methods = () => client.notified.slice(before).map(({ method }) => method);
      members[id].changeTools();
      await expect.poll(methods, poll).toContain("notifications/tools/list_changed");
      members[id].touch();
      await expect.poll(methods, poll).toContain("notifications/resources/updated");
      const updated = client.notified.findLast(({ method }) => method === "notifications/resources/updated");
      expect(updated?.params.uri).toBe(uri);
      expect(await client.toolNames()).toContain(`${id}__added`);
      members[id].changeTools();
      await expect.poll(() => client.toolNames(), poll).not.toContain(`${id}__added`);
    }
  });

  it("cancels a call at the server that runs it", async () => {
    for (const id of ids) {
      const before = members[id].cancelled();
      const abort = new AbortController();
      const call = client.call(`${id}__wait`, {}, { signal: abort.signal });
      call.catch(() => {});
      await members[id].waiting();
      abort.abort();
      await expect(call).rejects.toThrow();
      await expect.poll(() => members[id].cancelled(), poll).toBe(before + 1);
    }
  });
});
