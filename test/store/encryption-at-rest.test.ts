import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Store } from "../../src/store/store.ts";
import { type Backend, backends, makeKeys } from "./backends.ts";
import { audit, connection, inSeconds, registration, signingKey, upstreamToken } from "./samples.ts";

describe.each(["postgres", "embedded"] as const)("encryption at rest, on %s", (kind) => {
  let backend: Backend;
  let store: Store;
  beforeEach(async () => {
    backend = await backends[kind]();
    store = await backend.open();
  });
  afterEach(async () => {
    await store?.close();
    await backend?.close();
  });

  /** The store must be closed while another connection reads the embedded database. */
  async function beside<T>(work: () => Promise<T>, keys = makeKeys("k1")): Promise<T> {
    await store.close();
    const result = await work();
    store = await backend.open({ keys: await keys });
    return result;
  }

  async function dump(): Promise<string> {
    const tables = await backend.query(
      "select table_name as name from information_schema.tables where table_schema = 'public'",
    );
    expect(tables.length).toBeGreaterThan(9);
    // One statement: each opens the embedded database.
    const selects = tables.map(({ name }) => `select t::text from "${name}" t`);
    return JSON.stringify(await backend.query(selects.join(" union all ")));
  }

  async function fill(): Promise<void> {
    await store.upstreamTokens.put(
      upstreamToken({ dpopKey: { d: "secret-dpop-key" } }),
      audit("upstream_token.obtained"),
    );
    await store.pendingAuthorizations.create({
      kind: "upstream",
      state: "secret-state",
      expiresAt: inSeconds(60),
      payload: { verifier: "secret-verifier" },
    });
    const { issuer, redirectUri } = registration();
    await store.clientRegistrations.getOrRegister(issuer, redirectUri, async () => registration());
    for (const model of ["AuthorizationCode", "RefreshToken", "Session", "Interaction"])
      await store.authorizationServerRecords.upsert({
        model,
        id: `secret-${model}`,
        payload: {
          jti: `secret-${model}`,
          uid: `secret-uid-${model}`,
          userCode: "secret-code",
          grantId: "g",
        },
      });
    // A successor that may be issued again: its row names it.
    const payload = { grantId: "g", accountId: connection.userId, clientId: "c" };
    const successor = { id: "secret-successor", payload };
    expect(
      await store.authorizationServerRecords.rotateRefreshToken("secret-RefreshToken", successor, 30),
    ).toBe(true);
    await store.browserSessions.create({
      id: "secret-session",
      host: "gateway.example",
      userId: connection.userId,
      createdAt: new Date(),
      expiresAt: inSeconds(60),
    });
    await store.signInSessions.put({
      userId: connection.userId,
      providerId: "company",
      subject: "alice",
      sid: "secret-sid",
      groups: [],
      claims: {},
      idToken: "secret-id-token",
      accessToken: "secret-provider-access-token",
      refreshToken: "secret-provider-refresh-token",
      checkedAt: new Date(),
    });
    await store.signingKeys.ensure("external_token", async () => signingKey());
    await store.storedRoutes.create(
      { id: "stored", place: "stored.example.com/", entry: { value: "secret-api-key" } },
      { action: "route.created", routeId: "stored" },
    );
    const session = { userId: connection.userId, grantId: "g", routeId: "all", expiresAt: inSeconds(60) };
    const state = { member: "secret-member-session" };
    await store.aggregateSessions.create({ ...session, handle: "secret-aggregate-session", state }, 10);
    expect(await store.replicaMessages.send("other", { answer: "secret-answer" })).toBe("sent");
  }

  it("leaves no secret in clear text in any table", async () => {
    await fill();
    const text = await beside(dump);
    expect(text).toContain("company/alice");
    expect(text).toContain("RefreshTokenSuccessor");
    expect(text).not.toContain("secret-");
    expect(text).not.toContain(Buffer.from("secret-").toString("base64url").slice(0, 8));
  });

  it("rejects a ciphertext that was moved to another row", async () => {
    const mine = upstreamToken();
    const theirs = upstreamToken({ userId: "company/mallory" });
    await store.upstreamTokens.put(mine, audit("upstream_token.obtained"));
    await store.upstreamTokens.put(theirs, audit("upstream_token.obtained"));
    await beside(() =>
      backend.query(`
        update upstream_token set sealed = (select sealed from upstream_token where user_id = '${mine.userId}')
        where user_id = '${theirs.userId}'`),
    );
    await expect(store.upstreamTokens.find(theirs)).rejects.toMatchObject({ code: "ciphertext_moved" });
    expect(await store.upstreamTokens.find(mine)).toMatchObject({ accessToken: "secret-access-token" });
  });

  it("rejects an altered ciphertext, and still lets its owner disconnect", async () => {
    await store.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
    await beside(() =>
      backend.query(
        `update upstream_token set sealed = overlay(sealed placing 'AAAA' from length(sealed) - 40)`,
      ),
    );
    await expect(store.upstreamTokens.find(connection)).rejects.toMatchObject({ code: "ciphertext_damaged" });
    await store.upstreamTokens.delete(connection, audit("upstream_token.disconnected"));
    expect(await store.upstreamTokens.find(connection)).toBeUndefined();
  });

  it("never encrypts to the same ciphertext twice", async () => {
    await store.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
    const first = await beside(() => backend.query("select sealed from upstream_token"));
    await store.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
    expect(await beside(() => backend.query("select sealed from upstream_token"))).not.toEqual(first);
  });

  it("rotates the key of every row, after which the old key can be removed", async () => {
    await fill();
    await beside(async () => {}, makeKeys("k2", "k1"));
    expect((await store.upstreamTokens.find(connection))?.accessToken).toBe("secret-access-token");
    const rewritten = {
      upstream_token: 1,
      pending_authorization: 1,
      client_registration: 1,
      authorization_server_record: 6,
      sign_in_session: 1,
      // And the row MAC key.
      // Without the old MAC key, which no row needs any more.
      signing_key: 1,
      stored_route: 1,
      aggregate_session: 1,
      replica_message: 1,
    };
    expect(await store.rotateEncryptionKeys()).toEqual(rewritten);
    // The audit event has no user, but records what was done.
    const events = await store.auditEvents({ action: "encryption_key.rotated", limit: 10 });
    expect(events.map(({ detail }) => detail)).toEqual([{ ...rewritten, newest: "k2" }]);
    expect(Object.values(await store.rotateEncryptionKeys()).every((count) => count === 0)).toBe(true);
    await beside(async () => {}, makeKeys("k2"));
    expect((await store.upstreamTokens.find(connection))?.refreshToken).toBe("secret-refresh-token");
    expect(
      (await store.authorizationServerRecords.find("RefreshToken", "secret-RefreshToken"))?.payload.jti,
    ).toBe("secret-RefreshToken");
    expect(await store.pendingAuthorizations.consume("upstream", "secret-state")).toBeDefined();
    expect(await store.signingKeys.list("external_token")).toHaveLength(1);
    await beside(async () => {}, makeKeys("k1"));
    await expect(store.upstreamTokens.find(connection)).rejects.toMatchObject({
      code: "encryption_key_unknown",
      message: expect.stringContaining('list the key with the kid "k2" in encryption.keys again'),
    });
  });

  // The batch size is the same on both, and the embedded database takes twenty seconds.
  it.runIf(kind === "postgres")(
    "rotates more rows than one batch, and skips those that no key decrypts",
    async () => {
      for (let n = 0; n < 230; n++)
        await store.authorizationServerRecords.upsert({
          model: "RefreshToken",
          id: `id-${n}`,
          payload: { n },
        });
      await beside(
        () =>
          backend.query(
            "update authorization_server_record set sealed = 'x' where id_name = (select min(id_name) from authorization_server_record)",
          ),
        makeKeys("k2", "k1"),
      );
      expect((await store.rotateEncryptionKeys()).authorization_server_record).toBe(229);
      const left = await beside(
        () =>
          backend.query("select count(*)::int as n from authorization_server_record where key_id <> 'k2'"),
        makeKeys("k2", "k1"),
      );
      expect(left).toEqual([{ n: 1 }]);
    },
  );
});
