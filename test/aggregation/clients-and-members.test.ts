import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { clientKinds, connect, type TestClient } from "../system/aggregation/clients.ts";
import type { Member } from "../system/aggregation/members/member.ts";
import { modernMember } from "../system/aggregation/members/modern-member.ts";
import { longName, oddName } from "../system/aggregation/members/samples.ts";
import { sessionsMember, statelessMember } from "../system/aggregation/members/sessions-member.ts";
import { startReplicas, type TestReplicas } from "./replicas.ts";

const members: Record<string, Member> = {};
let replicas: TestReplicas;

beforeAll(async () => {
  members.old = await sessionsMember("old", "2025-03-26");
  members.notes = await sessionsMember("notes");
  members.plain = await statelessMember("plain");
  members.modern = await modernMember("modern");
  replicas = await startReplicas(
    Object.entries(members).map(([id, { url }]) => ({ id, url, name: id.toUpperCase() })),
    { count: 2 },
  );
});
afterAll(async () => {
  await replicas.close();
  for (const member of Object.values(members)) await member.close();
});

// Each request goes to the other replica.
describe.each(clientKinds)("a client of %s", (kind) => {
  let client: TestClient;
  const ids = ["old", "notes", "plain", "modern"];
  beforeAll(async () => {
    const { url, token, roundRobin } = replicas;
    client = await connect(kind, { url: url(), token, fetch: roundRobin });
  });
  afterAll(() => client?.close());

  it("reads the instructions of all members", async () => {
    // Members that take more than seconds to answer are left out.
    const instructions = async () => {
      const { url, token, roundRobin } = replicas;
      const another = await connect(kind, { url: url(), token, fetch: roundRobin });
      await another.close();
      return ids.filter((id) => another.instructions?.includes(`Instructions of ${id}`));
    };
    await expect.poll(instructions, { timeout: 60_000 }).toEqual(ids);
  });

  it("sees the tools of all members, with prefixes and names that clients accept", async () => {
    const names = await client.toolNames();
    for (const id of ids) expect(names).toContain(`${id}__whoami`);
    for (const name of names) expect(name).toMatch(/^[A-Za-z0-9_-]{1,64}$/);
    expect(new Set(names).size).toBe(names.length);
  });

  it("calls tools of each member, those with long and odd names too", async () => {
    const tools = await client.listTools();
    for (const id of ids) {
      expect((await client.call(`${id}__whoami`)).text).toBe(id);
      expect((await client.call(`${id}__echo`, { text: "hello" })).text).toBe("hello");
      expect(await client.call(`${id}__broken`)).toMatchObject({ isError: true, text: "it broke" });
      const own = tools.filter(({ name }) => name.startsWith(`${id}__`));
      for (const [description, said] of [
        ["A long name", "long"],
        ["An odd name", "odd"],
      ]) {
        const tool = own.find((one) => one.description === description);
        expect((await client.call(String(tool?.name))).text).toBe(`${said} ${id}`);
      }
      expect(own.map(({ name }) => name)).not.toContain(`${id}__${oddName}`);
      expect(own.map(({ name }) => name)).not.toContain(`${id}__${longName}`);
    }
  });

  it("gets structured results as the member sent them", async () => {
    expect((await client.call("notes__measure")).structuredContent).toEqual({ value: 42 });
    expect((await client.call("modern__measure")).structuredContent).toEqual({ value: 42 });
  });

  it("reads resources, those that a template or a result names too", async () => {
    const uris = (await client.listResources()).map(({ uri }) => uri);
    const templates = (await client.listTemplates()).map(({ uriTemplate }) => uriTemplate);
    for (const id of ids) {
      expect(uris).toContain(`${id}+memo://one`);
      expect(uris).toContain(`ui://${id}/widget/main.html`);
      expect(templates).toContain(`${id}+memo://notes/{id}`);
      const uri = `${id}+memo://notes/7`;
      expect(await client.read(uri)).toMatchObject([{ uri, text: `note 7 of ${id}` }]);
      expect((await client.call(`${id}__link`)).content[0]).toMatchObject({
        resource: { uri: `${id}+memo://one`, text: `one of ${id}` },
      });
      const app = `ui://${id}/widget/main.html`;
      expect(await client.read(app)).toMatchObject([{ uri: app, text: "<p>a widget</p>" }]);
    }
    expect((await client.call("notes__link")).content[1]).toMatchObject({ uri: "notes+memo://notes/7" });
    const tool = (await client.listTools()).find(({ name }) => name === "notes__link");
    expect(tool?._meta).toMatchObject({ ui: { resourceUri: "ui://notes/widget/main.html" } });
  });

  it("gets prompts and completes their arguments and those of templates", async () => {
    const names = (await client.listPrompts()).map(({ name }) => name);
    for (const id of ids) {
      expect(names).toContain(`${id}__greet`);
      expect(await client.getPrompt(`${id}__greet`, { city: "park" })).toBe(`${id}: park`);
      expect(
        await client.complete({ type: "ref/prompt", name: `${id}__greet` }, { name: "city", value: "par" }),
      ).toEqual(["paris", "park", "party"]);
      expect(
        await client.complete(
          { type: "ref/resource", uri: `${id}+memo://notes/{id}` },
          { name: "id", value: "7" },
        ),
      ).toEqual(["7", "77"]);
    }
  });

  it("is told of progress", async () => {
    for (const id of ids.filter((one) => one !== "plain")) {
      const seen: number[] = [];
      const onprogress = ({ progress }: { progress: number }) => void seen.push(progress);
      expect((await client.call(`${id}__progress`, {}, { onprogress })).text).toBe("done");
      expect(seen).toEqual([1, 2, 3]);
    }
  });

  it("answers what members ask, and sees which member asks", async () => {
    for (const id of ids.filter((one) => one !== "plain")) {
      expect((await client.call(`${id}__sample`)).text).toContain("sampled");
      expect(JSON.stringify(client.asked.at(-1))).toContain(`[${id.toUpperCase()}] prompt of ${id}`);
      expect((await client.call(`${id}__roots`)).text).toBe("file:///home/alice");
    }
    if (kind === "2025-03-26") return;
    for (const id of ["notes", "modern"]) {
      expect(JSON.parse((await client.call(`${id}__ask`)).text)).toEqual({
        action: "accept",
        content: { name: "Alice" },
      });
      expect(client.asked.at(-1)?.params.message).toBe(`[${id.toUpperCase()}] Who are you? asks ${id}`);
    }
    if (kind === "2025-06-18") return;
    for (const id of ["notes", "modern"]) {
      expect(JSON.parse((await client.call(`${id}__ask_url`)).text)).toMatchObject({ action: "accept" });
      expect(client.asked.at(-1)?.params.message).toBe(`[${id.toUpperCase()}] Pay, asks ${id}`);
    }
  });

  it("gets log messages, which say which member wrote them", async () => {
    if (kind === "2026-07-28") return;
    await client.call("notes__log");
    const logged = () => client.notified.filter(({ method }) => method === "notifications/message");
    await expect.poll(logged).toContainEqual({
      method: "notifications/message",
      params: { level: "warning", logger: "notes/disk", data: "log of notes" },
    });
  });

  it("is told when tools and resources of members change", async () => {
    const told = (method: string, uri?: string) =>
      client.notified.some((one) => one.method === method && (uri === undefined || one.params.uri === uri));
    for (const id of ["notes", "modern"]) {
      const uri = `${id}+memo://one`;
      await client.follow(uri);
      const names = async () => client.toolNames();
      const before = (await names()).includes(`${id}__added`);
      await expect
        .poll(
          () => {
            members[id]?.touch();
            return told("notifications/resources/updated", uri);
          },
          { timeout: 60_000 },
        )
        .toBe(true);
      client.notified.length = 0;
      members[id]?.changeTools();
      await expect.poll(() => told("notifications/tools/list_changed"), { timeout: 60_000 }).toBe(true);
      expect((await names()).includes(`${id}__added`)).toBe(!before);
    }
  });

  it("cancels what a member is doing", async () => {
    for (const id of ids.filter((one) => one !== "plain")) {
      const member = members[id];
      if (!member) throw new Error(id);
      const before = member.cancelled();
      const stop = new AbortController();
      const call = client.call(`${id}__wait`, {}, { signal: stop.signal });
      await Promise.race([member.waiting(), call]);
      stop.abort("enough");
      await expect(call).rejects.toThrow();
      await expect.poll(() => member.cancelled(), { timeout: 60_000 }).toBe(before + 1);
    }
  });
});
