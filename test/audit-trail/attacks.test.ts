import { CompactSign, generateKeyPair } from "jose";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hashBatch, hashEvents, signCheckpoint } from "../../src/audit-trail/chain.ts";
import { createChain } from "../../src/audit-trail/chain-events.ts";
import { publicKeys } from "../../src/external-tokens/signing-keys.ts";
import { startTrail, type TestTrail } from "./start-trail.ts";

/*
 * Somebody who can write to the database, but has neither the key-encryption keys nor a replica, changes the audit trail.
 */

let trail: TestTrail;
beforeEach(async () => {
  trail = await startTrail();
  // Batches 2, 3 and 4 with the events 1 to 3, 4 to 6 and 7 to 9; batch 1 has none.
  for (let n = 0; n < 3; n++) {
    await trail.write(3);
    await trail.chain.round();
  }
});
afterEach(() => trail.close());

it("an unchanged trail verifies", async () => {
  expect(await trail.verify()).toMatchObject({
    findings: [],
    verified: 9,
    batches: 4,
    pending: 0,
    before: 0,
  });
});

describe("an attacker with write access to the database is found out who", () => {
  it.each([
    ["action", "'grant.created'"],
    ["actor", "'cli'"],
    ["user_id", "'company/mallory'"],
    ["reason", "null"],
    ["detail", `'{"n": 1, "rule": "other"}'`],
    ["at", "at - interval '1 minute'"],
  ])("changes the column %s", async (column, value) => {
    await trail.query(`update audit_event set ${column} = ${value} where id = 5`);
    expect(await trail.findings()).toEqual(["changed 5"]);
  });

  it("moves an event to another day", async () => {
    await trail.query("update audit_event set at = at + interval '30 days' where id = 5");
    expect(await trail.findings()).toEqual(["changed 5"]);
  });

  it("deletes an event", async () => {
    await trail.query("delete from audit_event where id = 5");
    expect(await trail.findings()).toEqual(["missing 5"]);
  });

  it("exchanges two events", async () => {
    await trail.query(
      "update audit_event set id = case id when 4 then 1004 else 1008 end where id in (4, 8)",
    );
    await trail.query("update audit_event set id = case id when 1004 then 8 else 4 end where id > 1000");
    expect((await trail.findings()).sort()).toEqual(["changed 4", "changed 8", "swapped 4"]);
  });

  it("changes the order of events in a batch", async () => {
    await trail.query("update audit_batch set ids = '[5, 4, 6]' where number = 3");
    expect(await trail.findings()).toContain("batch_changed batch 3");
  });

  it("deletes an event and its place in the batch", async () => {
    await trail.query(`
      update audit_batch set ids = '[4, 6]', hashes = substr(hashes, 1, 32) || substr(hashes, 65) where number = 3;
      delete from audit_event where id = 5`);
    expect(await trail.findings()).toEqual(["batch_changed batch 3"]);
  });

  it("deletes events and their batch", async () => {
    await trail.query(`
      delete from audit_batch where number = 3;
      delete from audit_event where id between 4 and 6`);
    expect(await trail.findings()).toEqual(["batch_missing batch 3"]);
  });

  it("deletes the beginning, as if it had expired", async () => {
    await trail.query(`
      delete from audit_batch where number < 3;
      delete from audit_event where id < 4`);
    expect(await trail.findings()).toEqual(["batch_missing batch 1"]);
  });

  it("makes a batch without the key", async () => {
    const [, , , last] = await trail.store.auditTrail.batches(0, 10);
    if (!last) throw new Error("no batch");
    const { privateKey } = await generateKeyPair("ES256");
    await trail.write(1, "company/forged");
    const [event] = (await trail.store.auditEvents({ limit: 100 })).slice(-1);
    if (!event) throw new Error("no event");
    const events = hashEvents([event]);
    const hash = hashBatch(5, last.hash, events);
    const forged = { number: 5, previous: last.hash, hash, firstAt: event.at, lastAt: event.at };
    const checkpoint = await signCheckpoint(
      { ...forged, count: 1, time: new Date(), since: new Date() },
      { kid: trail.keys.signer("audit").kid, key: privateKey },
    );
    const hashes = Buffer.concat(events.map((one) => one.hash));
    await trail.store.auditTrail.append({ ...forged, ids: [event.id], hashes, checkpoint });
    expect(await trail.findings()).toEqual(["batch_unsigned batch 5"]);
    // A replica that takes over says so, too, and continues.
    await trail.write(1);
    await trail.newChain().round();
    expect(trail.problems).toEqual(["invalid_checkpoint 5"]);
    expect(await trail.findings()).toContain("batch_unsigned batch 5");
  });

  it("inserts an event into an old batch, with its hash", async () => {
    await trail.query(
      "insert into audit_event (id, action, at) select 100, 'grant.created', at from audit_event where id = 5",
    );
    const [event] = await trail.store.auditEvents({ after: 99, limit: 1 });
    if (!event) throw new Error("no event");
    const [hashed] = hashEvents([event]);
    await trail.query(`
      update audit_batch set ids = ids || '100', last_id = 100, hashes = hashes || '\\x${hashed?.hash.toString("hex")}'
      where number = 3`);
    expect(await trail.findings()).toEqual(["batch_changed batch 3"]);
  });

  it("writes the whole chain again, with a key of his own in place of the gateway's", async () => {
    const { privateKey } = await generateKeyPair("ES256");
    const { kid } = trail.keys.signer("audit");
    await trail.query("delete from audit_batch; delete from audit_event where id = 5");
    // What a replica would write, if it had his key.
    const forger = createChain({
      ...{ trail: trail.store.auditTrail, onProblem: () => {}, verify: () => Promise.reject(new Error()) },
      signer: () => ({ kid, key: privateKey }),
    });
    await forger.round();
    expect((await trail.findings()).sort()).toEqual(["batch_unsigned batch 1", "batch_unsigned batch 2"]);
  });

  it("plants a signing key, or turns another one into one of the audit trail", async () => {
    const keys = await publicKeys(trail.store, "audit");
    const [row = {}] = await trail.query("select * from signing_key where purpose = 'audit'");
    const columns = Object.keys(row).filter((name) => name !== "kid");
    await trail.query(`
      insert into signing_key (kid, ${columns.join(", ")})
      select 'planted', ${columns.join(", ")} from signing_key where purpose = 'audit';
      update signing_key set purpose = 'audit' where purpose = 'external_token'`);
    expect(await publicKeys(trail.store, "audit")).toEqual(keys);
  });

  it("puts a checkpoint of another installation in the place of one", async () => {
    const other = await startTrail();
    const foreign = (await other.store.auditTrail.latest())?.checkpoint;
    await other.close();
    await trail.query(`update audit_batch set checkpoint = '${foreign}' where number = 4`);
    expect(await trail.findings()).toEqual(["batch_unsigned batch 4"]);
  });

  it("puts an earlier checkpoint in the place of one", async () => {
    await trail.query(
      "update audit_batch set checkpoint = (select checkpoint from audit_batch where number = 3) where number = 4",
    );
    expect(await trail.findings()).toEqual(["batch_changed batch 4"]);
  });

  it("changes an event of the last batch, and the batch with it", async () => {
    await trail.query("update audit_event set user_id = 'company/mallory' where id = 8");
    const last = await trail.store.auditTrail.latest();
    const events = hashEvents(await trail.store.auditEvents({ after: 6, limit: 3 }));
    await trail.query(`
      update audit_batch set hash = '${hashBatch(4, last?.previous ?? "", events)}',
        hashes = '\\x${Buffer.concat(events.map(({ hash }) => hash)).toString("hex")}' where number = 4`);
    expect(await trail.findings()).toEqual(["batch_changed batch 4"]);
  });

  it("uses something else that the key has signed", async () => {
    const last = await trail.store.auditTrail.latest();
    const { kid, key } = trail.keys.signer("audit");
    const [, payload = ""] = last?.checkpoint.split(".") ?? [];
    const other = await new CompactSign(Buffer.from(payload, "base64url"))
      .setProtectedHeader({ alg: "ES256", kid, typ: "JWT" })
      .sign(key);
    await trail.query(`update audit_batch set checkpoint = '${other}' where number = 4`);
    expect(await trail.findings()).toEqual(["batch_unsigned batch 4"]);
  });

  it("signs a batch with a token of the gateway", async () => {
    const { keys } = trail;
    const [, , , last] = await trail.store.auditTrail.batches(0, 10);
    const forged = await signCheckpoint(
      {
        ...{ number: 4, count: 3, previous: last?.previous ?? "", hash: last?.hash ?? "" },
        ...{ firstAt: new Date(), lastAt: new Date(), time: new Date(), since: new Date() },
      },
      keys.signer("external_token"),
    );
    await trail.query(`update audit_batch set checkpoint = '${forged}' where number = 4`);
    expect(await trail.findings()).toContain("batch_unsigned batch 4");
  });

  it("adds an event with an earlier time", async () => {
    await trail.query(
      "insert into audit_event (action, user_id, at) values ('grant.created', 'x', now() - interval '2 hours')",
    );
    await trail.chain.round();
    expect(await trail.findings()).toEqual(["added 10"]);
  });

  it("adds an event that no replica chains", async () => {
    await trail.query("insert into audit_event (action, user_id) values ('grant.created', 'x')");
    expect(await trail.findings()).toEqual(["added 10"]);
  });

  it("adds an event with an unused id in the middle", async () => {
    await trail.query("select setval('audit_event_id_seq', 20)");
    await trail.write(1);
    await trail.chain.round();
    await trail.query(
      "insert into audit_event (id, action, at) values (15, 'grant.created', now() - interval '20 minutes')",
    );
    expect(await trail.findings()).toEqual(["added 15"]);
  });

  it("cuts the end of the chain: with checkpoints from before", async () => {
    const checkpoints = await trail.checkpoints();
    await trail.query(`
      delete from audit_batch where number = 4;
      delete from audit_event where id > 6`);
    expect(await trail.findings()).toEqual([]);
    expect(await trail.findings(checkpoints)).toEqual(["cut batch 4"]);
    // The replica that made the batch notices it by itself.
    await trail.chain.round();
    expect(trail.problems).toEqual(["shortened 4"]);
  });

  it("lets the gateway write the chain again: with checkpoints from before", async () => {
    const checkpoints = await trail.checkpoints();
    await trail.query(`
      delete from audit_batch where number = 4;
      delete from audit_event where id = 8`);
    await trail.newChain().round();
    expect(await trail.findings()).toEqual([]);
    expect(await trail.findings(checkpoints)).toEqual(["rewritten batch 4"]);
  });

  it("deletes the whole chain: with checkpoints from before", async () => {
    const checkpoints = await trail.checkpoints();
    await trail.query("delete from audit_batch");
    await trail.newChain().round();
    expect(await trail.findings(checkpoints)).toContain("rewritten batch 1");
  });
});

it("two processes that chain at the same time leave one chain with every event once", async () => {
  const chains = [trail.newChain(), trail.newChain(), trail.newChain()];
  for (let n = 0; n < 5; n++) {
    await trail.write(4);
    await Promise.all(chains.map((chain) => chain.round()));
  }
  expect(await trail.verify()).toMatchObject({ findings: [], verified: 29, pending: 0 });
});

it("a replica that takes over chains what was written, or committed, minutes ago", async () => {
  await trail.query(
    "insert into audit_event (action, at) select 'policy.denied', now() - n * interval '1 minute' from generate_series(1, 9) n",
  );
  await trail.newChain().round();
  expect(await trail.verify()).toMatchObject({ findings: [], verified: 18 });
});

it("any number of events with the same time are chained", async () => {
  await trail.query(
    "insert into audit_event (action, at) select 'policy.denied', now() from generate_series(1, 25000)",
  );
  await trail.chain.round();
  expect(await trail.verify()).toMatchObject({ findings: [], verified: 25_009 });
});

it.each(["round", "raiseFloor"] as const)(
  "a process that stalls in %s, and wakes up after another one has chained, makes no fork",
  async (name) => {
    const longAgo = new Date(0);
    const { auditTrail } = trail.store;
    const [stalled, awake] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const stalling = trail.newChain({
      ...auditTrail,
      async append(...args) {
        stalled.resolve();
        await awake.promise;
        return auditTrail.append(...args);
      },
    });
    await trail.write(2);
    const round = name === "round" ? stalling.round() : stalling.raiseFloor(longAgo);
    await stalled.promise;
    await trail.write(2);
    await trail.chain.round();
    await trail.write(2);
    await trail.chain.round();
    awake.resolve();
    await round;
    await trail.chain.round();
    const { findings, pending, floor } = await trail.verify();
    expect({ findings, pending }).toEqual({ findings: [], pending: 0 });
    // A floor that is not in the chain would make an expiry look like an attack.
    expect(floor).toEqual(name === "raiseFloor" ? { batch: 1, before: longAgo } : undefined);
    expect(trail.problems).toEqual([]);
  },
);

it("an event that is committed after younger ones is chained", async () => {
  const { url } = trail.backend as unknown as { url: string };
  const { default: pg } = await import("pg");
  const late = new pg.Client({ connectionString: url });
  await late.connect();
  await late.query("begin");
  await late.query("insert into audit_event (action, at) values ('grant.created', clock_timestamp())");
  await trail.write(2);
  await trail.chain.round();
  await late.query("commit");
  await late.end();
  await trail.write(1);
  await trail.chain.round();
  expect(await trail.verify()).toMatchObject({ findings: [], verified: 13, pending: 0 });
});
