import { expect, it } from "vitest";
import type { AuditEvent } from "../../src/store/audit-events.ts";
import type { Store } from "../../src/store/store.ts";
import { describeStore } from "./describe-store.ts";
import { audit, connection, inSeconds, upstreamToken } from "./samples.ts";

const userId = connection.userId;
const session = { id: "s", host: "gateway.example", userId, createdAt: new Date(), expiresAt: inSeconds(60) };
const signIn = {
  userId,
  providerId: "company",
  subject: "alice",
  groups: [],
  claims: {},
  checkedAt: new Date(),
};
const grant = {
  model: "Grant",
  id: "g",
  payload: { accountId: userId, clientId: "c", jti: "g" },
  expiresAt: inSeconds(60),
};
const route = { id: "added", place: "added.example/", entry: { from: "https://added.example" } };

interface Recorded {
  readonly action: AuditEvent["action"];
  /** Prerequisites. */
  before?(store: Store): Promise<unknown>;
  run(store: Store, event: AuditEvent): Promise<unknown>;
  /** Whether the change has been made. */
  done(store: Store): Promise<boolean>;
}

const recorded: readonly Recorded[] = [
  {
    action: "person.signed_in",
    run: (store, event) => store.signInSessions.put(signIn, event),
    done: async (store) => (await store.signInSessions.find(userId)) !== undefined,
  },
  {
    action: "person.rejected",
    before: (store) => store.signInSessions.put(signIn),
    run: (store, event) => store.endAccessOfPerson(userId, event),
    done: async (store) => (await store.signInSessions.find(userId)) === undefined,
  },
  {
    action: "person.signed_out",
    before: (store) => store.browserSessions.create(session),
    run: (store, event) => store.browserSessions.end("s", event),
    done: async (store) => (await store.browserSessions.find("s")) === undefined,
  },
  {
    action: "person.signed_out",
    before: (store) => store.browserSessions.create(session),
    run: (store, event) => store.browserSessions.endForUser(userId, event),
    done: async (store) => (await store.browserSessions.find("s")) === undefined,
  },
  {
    action: "grant.created",
    run: (store, event) => store.authorizationServerRecords.upsert(grant, event),
    done: (store) => store.authorizationServerRecords.grantIsLive("g"),
  },
  {
    action: "grant.revoked",
    before: (store) => store.authorizationServerRecords.upsert(grant),
    run: (store, event) => store.authorizationServerRecords.revokeGrant("g", event),
    done: async (store) => !(await store.authorizationServerRecords.grantIsLive("g")),
  },
  {
    action: "upstream_token.obtained",
    run: (store, event) => store.upstreamTokens.put(upstreamToken(), event),
    done: async (store) => (await store.upstreamTokens.find(connection)) !== undefined,
  },
  {
    action: "upstream_token.disconnected",
    before: (store) => store.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained")),
    run: (store, event) => store.upstreamTokens.delete(connection, event),
    done: async (store) => (await store.upstreamTokens.find(connection)) === undefined,
  },
  {
    action: "route.created",
    run: (store, event) => store.storedRoutes.create(route, event),
    done: async (store) => (await store.storedRoutes.list()).length === 1,
  },
];

describeStore("the audit trail", (store) => {
  it.each(recorded)("$action is written together with the change it records, or neither is", async (one) => {
    await one.before?.(store());
    const event: AuditEvent = { ...audit(one.action), requestId: crypto.randomUUID() };
    // Postgres rejects a NUL in a text.
    await expect(one.run(store(), { ...event, reason: "\0" })).rejects.toThrow();
    expect(await one.done(store())).toBe(false);
    await one.run(store(), event);
    expect(await one.done(store())).toBe(true);
    const events = await store().auditEvents({ action: one.action, limit: 100 });
    expect(events.filter(({ requestId }) => requestId === event.requestId)).toHaveLength(1);
    await cleanUp(store());
  });

  it("has details by action: another name, or one of another action, does not compile", () => {
    const events: AuditEvent[] = [
      { action: "grant.created", detail: { client_name: "a" } },
      // @ts-expect-error a name that this action does not have
      { action: "grant.created", detail: { clientName: "a" } },
      // @ts-expect-error a detail of another action
      { action: "signing_key.rotated", detail: { client_name: "a" } },
      // @ts-expect-error an action without details
      { action: "grant.revoked", detail: { client_name: "a" } },
    ];
    expect(events).toHaveLength(4);
  });

  it("has one event for an end by several replicas at once", async () => {
    await store().signInSessions.put(signIn);
    await store().browserSessions.create(session);
    const event = { action: "person.rejected", userId, requestId: "many" } as const;
    for (let replica = 0; replica < 3; replica += 1) {
      await store().browserSessions.end("s", { ...event, action: "person.signed_out" });
      await store().endAccessOfPerson(userId, event);
    }
    const events = (await store().auditEvents({ limit: 1000 })).filter(
      ({ requestId }) => requestId === "many",
    );
    expect(events.map(({ action }) => action)).toEqual(["person.signed_out", "person.rejected"]);
  });
});

async function cleanUp(store: Store): Promise<void> {
  await store.endAccessOfPerson(userId, { action: "person.signed_out" });
  await store.browserSessions.endForUser(userId);
  await store.authorizationServerRecords.destroy("Grant", "g");
  await store.upstreamTokens.delete(connection, audit("upstream_token.disconnected"));
  await store.storedRoutes.delete(route.id, audit("route.deleted"));
}
