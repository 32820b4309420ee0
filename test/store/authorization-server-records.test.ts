import { expect, it } from "vitest";
import { rowsOf } from "../support/rows-of.ts";
import { changes } from "./changes.ts";
import { describeStore } from "./describe-store.ts";
import { audit, inSeconds, signIn, signingKey } from "./samples.ts";

describeStore("authorization server records", (store) => {
  const records = () => store().authorizationServerRecords;
  const grant = (id: string, accountId = "company/alice") =>
    records().upsert({
      model: "Grant",
      id,
      payload: { accountId, clientId: "mcp-client", jti: id },
      expiresAt: inSeconds(60),
    });

  it("finds a record by id, uid and user code, and not under another model", async () => {
    const payload = { uid: "uid-1", userCode: "code-1", n: 1 };
    await records().upsert({ model: "Session", id: "id-1", payload });
    await records().upsert({ model: "Session", id: "id-1", payload: { ...payload, n: 2 } });
    const expected = { model: "Session", id: "id-1", payload: { ...payload, n: 2 } };
    expect(await records().find("Session", "id-1")).toEqual(expected);
    expect(await records().findByUid("Session", "uid-1")).toEqual(expected);
    expect(await records().findByUserCode("Session", "code-1")).toEqual(expected);
    expect(await records().find("Interaction", "id-1")).toBeUndefined();
    await records().destroy("Session", "id-1");
    expect(await records().find("Session", "id-1")).toBeUndefined();
  });

  it("lets only one of 20 concurrent callers consume a code, permanently", async () => {
    await records().upsert({ model: "AuthorizationCode", id: "c", payload: {}, expiresAt: inSeconds(60) });
    const won = await Promise.all(
      Array.from({ length: 20 }, () => records().consume("AuthorizationCode", "c")),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    expect((await records().find("AuthorizationCode", "c"))?.consumedAt).toBeInstanceOf(Date);
    await records().upsert({ model: "AuthorizationCode", id: "c", payload: {}, expiresAt: inSeconds(60) });
    expect(await records().consume("AuthorizationCode", "c")).toBe(false);
  });

  it("treats expired records as absent", async () => {
    await records().upsert({ model: "AuthorizationCode", id: "x", payload: {}, expiresAt: inSeconds(-1) });
    expect(await records().find("AuthorizationCode", "x")).toBeUndefined();
    expect(await records().consume("AuthorizationCode", "x")).toBe(false);
  });

  it("stores a grant only for a signed-in person, and a code or token only for a live grant", async () => {
    const given = (model: string, id: string, payload: Record<string, unknown>) =>
      records().upsertIfAllowed({ model, id, payload, expiresAt: inSeconds(60) });
    const mine = { accountId: "company/carol", clientId: "mcp-client" };
    expect(await given("Grant", "late", mine)).toBe(false);
    expect(await records().find("Grant", "late")).toBeUndefined();
    expect(await given("RefreshToken", "of-late", { ...mine, grantId: "late" })).toBe(false);
    expect(await given("RefreshToken", "of-none", mine)).toBe(false);
    await store().signInSessions.put(signIn("company/carol"));
    expect(await given("Grant", "now", mine)).toBe(true);
    expect(await given("AuthorizationCode", "of-now", { ...mine, grantId: "now" })).toBe(true);
    expect(await records().find("AuthorizationCode", "of-now")).toMatchObject({
      payload: { grantId: "now" },
    });
    await records().revokeGrant("now", audit("grant.revoked"));
    expect(await given("RefreshToken", "of-now", { ...mine, grantId: "now" })).toBe(false);
    await store().endAccessOfPerson("company/carol", { action: "person.signed_out" });
  });

  it("ending all access concurrently leaves no new records", async () => {
    await store().signInSessions.put(signIn("company/dave"));
    const mine = { accountId: "company/dave", clientId: "mcp-client" };
    const give = async (id: string) => {
      const expiresAt = inSeconds(60);
      await records().upsertIfAllowed({ model: "Grant", id, payload: mine, expiresAt });
      const token = { model: "RefreshToken", id: `of-${id}`, payload: { ...mine, grantId: id }, expiresAt };
      await records().upsertIfAllowed(token);
    };
    const giving = Array.from({ length: 12 }, (_, index) => give(`same-moment-${index}`));
    await store().endAccess(signingKey({ kid: "after", purpose: "external_token" }), "restored");
    await Promise.all(giving);
    expect(await rowsOf(records().grantPages({}))).toEqual([]);
    expect(await records().find("RefreshToken", "of-same-moment-0")).toBeUndefined();
    expect((await store().signingKeys.list("external_token")).map(({ kid }) => kid)).toEqual(["after"]);
  });

  it("revokes a grant with all its records, notifies, and does so once", async () => {
    await grant("g1");
    await grant("g2", "company/bob");
    await records().upsert({ model: "RefreshToken", id: "r1", payload: { grantId: "g1" } });
    expect(await records().grantIsLive("g1")).toBe(true);
    const { next, stop } = changes(store());
    expect(await records().revokeGrant("g1", audit("grant.revoked"))).toBe(true);
    expect(await next).toEqual({ table: "grant", grantId: "g1" });
    stop();
    expect(await records().revokeGrant("g1", audit("grant.revoked"))).toBe(false);
    expect(await records().grantIsLive("g1")).toBe(false);
    expect(await records().find("RefreshToken", "r1")).toBeUndefined();
    expect(await records().grantIsLive("g2")).toBe(true);
  });

  it("lists grants by user and by client", async () => {
    await grant("g3", "company/carol");
    const [carols] = await records().grants({ userId: "company/carol" });
    expect(carols).toMatchObject({
      grantId: "g3",
      userId: "company/carol",
      clientId: "mcp-client",
      createdAt: expect.any(Date),
    });
    const ids = async (filter: Parameters<ReturnType<typeof records>["grantPages"]>[0]) =>
      (await rowsOf(records().grantPages(filter))).map(({ grantId }) => grantId);
    expect(await ids({ clientId: "mcp-client" })).toEqual(["g2", "g3"]);
    expect(await ids({ grantId: "g2" })).toEqual(["g2"]);
    expect(await ids({ userId: "company/carol", grantId: "g2" })).toEqual([]);
    expect(await records().grants({ userId: "company/carol", clientId: "other" })).toEqual([]);
  });
});
