import { expect, it } from "vitest";
import { describeStore } from "./describe-store.ts";
import { audit, connection, inSeconds, registration, signingKey, upstreamToken } from "./samples.ts";

describeStore("bounded tables", (store) => {
  it("removes expired rows of every kind in batches, and nothing that is still in use", async () => {
    const days = (n: number) => inSeconds(n * 86_400);
    const put = (routeId: string, over: Parameters<typeof upstreamToken>[0]) =>
      store().upstreamTokens.put(upstreamToken({ routeId, ...over }), audit("upstream_token.obtained"));
    await put("refreshable", { expiresAt: inSeconds(-1) });
    await put("finite", { refreshToken: undefined });
    await put("refresh expires", { refreshExpiresAt: inSeconds(60) });
    await put("until refused", { expiresAt: undefined, refreshToken: undefined });
    await store().upstreamTokens.requireScopes(connection, { scopes: ["a"], requiredAt: new Date() });
    for (let n = 0; n < 1_100; n++)
      await store().authorizationServerRecords.upsert({
        model: "AuthorizationCode",
        id: `${n}`,
        payload: {},
        expiresAt: inSeconds(60),
      });
    await store().authorizationServerRecords.upsert({ model: "Client", id: "permanent", payload: {} });
    await store().authorizationServerRecords.upsert({
      model: "Grant",
      id: "g",
      payload: { accountId: "company/granted" },
    });
    // The link to the successor exists as long as the used refresh token may be repeated; the successor stays.
    const records = store().authorizationServerRecords;
    await records.upsert({ model: "RefreshToken", id: "used", payload: { grantId: "g" } });
    const successor = { id: "successor", payload: { grantId: "g" } };
    expect(await records.rotateRefreshToken("used", successor, 30)).toBe(true);
    await store().pendingAuthorizations.create({
      kind: "sign_in",
      state: "s",
      expiresAt: inSeconds(60),
      payload: 1,
    });
    const { redirectUri } = registration();
    for (const [issuer, secretExpiresAt] of [
      ["https://expiring.example", inSeconds(60)],
      ["https://lasting.example", undefined],
    ] as const)
      await store().clientRegistrations.getOrRegister(issuer, redirectUri, async () =>
        registration({ issuer, secretExpiresAt }),
      );
    await store().browserSessions.create({
      id: "b",
      host: "h",
      userId: "company/gone",
      createdAt: new Date(),
      expiresAt: inSeconds(60),
    });
    for (const name of ["gone", "granted"])
      await store().signInSessions.put({
        userId: `company/${name}`,
        providerId: "company",
        subject: name,
        groups: [],
        claims: {},
        checkedAt: new Date(),
      });
    for (const [id, expiresAt] of [
      ["0", inSeconds(60)],
      ["1", days(300)],
    ] as const)
      await store().authorizationServerRecords.upsert(
        { model: "AuthorizationCode", id, payload: {}, expiresAt: inSeconds(60) },
        undefined,
        {
          account: "service-account/ci",
          ownerId: connection.userId,
          routeIds: ["refreshable"],
          expiresAt,
        },
      );
    await store().signingKeys.ensure("assertion", async () =>
      signingKey({ purpose: "assertion", expiresAt: inSeconds(60) }),
    );

    expect(await store().usedValues.take("logout_token", "j", inSeconds(60))).toBe(true);
    await store().elicitationSessions.record({ ...connection, sessionId: "s" });
    const ofBrowser = { sessionName: "browser", userId: connection.userId, expiresAt: inSeconds(60) };
    await store().adminSessions.addCode({ code: "code", ...ofBrowser });
    await store().adminSessions.create({ id: "id", ...ofBrowser }, { action: "admin.signed_in" });
    await store().replicas.report({ name: "host:1", version: "1.0.0", startedAt: new Date() });

    const { userId } = connection;
    await store().aggregateSessions.create(
      { handle: "session", userId, grantId: "g", routeId: "all", expiresAt: inSeconds(60), state: {} },
      10,
    );
    await store().replicaMessages.send("dead replica", "hello");

    const none = await store().removeExpired(new Date());
    expect(new Set(Object.values(none))).toEqual(new Set([0]));
    expect(await store().removeExpired(days(100))).toEqual({
      upstream_token: 2,
      upstream_demand: 1,
      pending_authorization: 1,
      client_registration: 1,
      authorization_server_record: 1_101,
      delegation: 1,
      granted_member: 0,
      browser_session: 1,
      sign_in_session: 1,
      signing_key: 1,
      aggregate_session: 1,
      replica_message: 1,
      elicitation_session: 1,
      admin_code: 1,
      admin_session: 1,
      replica: 1,
      used_value: 1,
    });
    const left = await store().upstreamTokens.listForUser(connection.userId);
    expect(left.map(({ routeId }) => routeId).sort()).toEqual(["refreshable", "until refused"]);
    expect(await records.find("Client", "permanent")).toBeDefined();
    expect(await records.find("RefreshToken", "successor")).toBeDefined();
    expect(await records.find("RefreshTokenSuccessor", "used")).toBeUndefined();
    expect(await store().signInSessions.find("company/granted")).toBeDefined();
  });
});
