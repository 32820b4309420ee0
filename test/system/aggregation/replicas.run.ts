import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type AggregateStack, startAggregateStack } from "./aggregate-stack.ts";
import { answers, clientKinds, type TestClient } from "./clients.ts";
import type { Member } from "./members/member.ts";
import { modernMember } from "./members/modern-member.ts";
import { sessionsMember } from "./members/sessions-member.ts";

/* Two sidecars behind Envoy without affinity: it sends the requests of a session to both, in turn. */
const poll = { timeout: 60_000 };
let stack: AggregateStack;
let members: { readonly notes: Member; readonly tickets: Member };
beforeAll(async () => {
  members = { notes: await sessionsMember("notes"), tickets: await modernMember("tickets") };
  stack = await startAggregateStack({
    members: { notes: { member: members.notes }, tickets: { member: members.tickets } },
    aggregates: { "all.test": { routes: ["notes", "tickets"] } },
    replicas: 2,
    affinity: false,
  });
}, 180_000);
afterAll(async () => {
  await stack?.close();
  for (const member of Object.values(members ?? {})) await member.close();
});

const initialized = () => members.notes.requests.filter(({ body }) => body.includes('"initialize"')).length;

describe.each(clientKinds)("a client of %s whose requests reach both replicas", (kind) => {
  let client: TestClient;
  beforeAll(async () => {
    client = await stack.connect(kind);
  });

  it("calls tools within one session of each member", async () => {
    for (let n = 0; n < 3; n++)
      for (const id of ["notes", "tickets"]) expect((await client.call(`${id}__whoami`)).text).toBe(id);
    const before = initialized();
    await Promise.all(Array.from({ length: 20 }, () => client.call("notes__whoami")));
    expect(initialized()).toBe(before);
  });

  it.skipIf(kind === "2025-03-26")("answers questions, whichever replica gets the answer", async () => {
    for (let n = 0; n < 4; n++)
      for (const id of ["notes", "tickets"])
        expect(JSON.parse((await client.call(`${id}__ask`)).text)).toEqual({
          ...{ action: "accept", content: answers.content },
        });
  });

  it("lets the model and the roots answer, whichever replica gets the answer", async () => {
    for (let n = 0; n < 4; n++) {
      expect(JSON.parse((await client.call("notes__sample")).text)).toEqual(answers.sampled.content);
      expect((await client.call("notes__roots")).text).toBe("file:///home/alice");
    }
  });

  it("cancels calls, whichever replica gets the cancellation", async () => {
    for (let n = 0; n < 4; n++) {
      const before = members.notes.cancelled();
      const abort = new AbortController();
      const call = client.call("notes__wait", {}, { signal: abort.signal });
      call.catch(() => {});
      await members.notes.waiting();
      abort.abort();
      await expect(call).rejects.toThrow();
      await expect.poll(() => members.notes.cancelled(), poll).toBe(before + 1);
    }
  });

  it("is notified of changes", async () => {
    const { uri = "" } = (await client.listResources()).find((one) => /notes.*one/.test(one.uri)) ?? {};
    await client.follow(uri);
    const before = client.notified.length;
    const methods = () => client.notified.slice(before).map(({ method }) => method);
    members.notes.changeTools();
    await expect.poll(methods, poll).toContain("notifications/tools/list_changed");
    members.notes.touch();
    await expect.poll(methods, poll).toContain("notifications/resources/updated");
  });

  it("continues its session when a replica has died, and after it is back", async () => {
    const call = () => client.call("notes__whoami").then(({ text }) => text, String);
    expect(await call()).toBe("notes");
    const before = initialized();
    const dead = stack.second();
    dead.kill("SIGKILL");
    await dead.exited;
    // Envoy needs a moment to notice: requests to the dead replica fail until then.
    await expect.poll(call, poll).toBe("notes");
    await expect
      .poll(async () => new Set(await Promise.all(Array.from({ length: 10 }, call))), poll)
      .toEqual(new Set(["notes"]));
    await stack.startSecond();
    await expect
      .poll(async () => new Set(await Promise.all(Array.from({ length: 10 }, call))), poll)
      .toEqual(new Set(["notes"]));
    expect(initialized()).toBe(before);
    if (kind !== "2025-03-26") expect((await client.call("notes__ask")).isError).toBe(false);
  });
});
