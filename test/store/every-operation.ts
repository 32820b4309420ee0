import { randomUUID } from "node:crypto";
import type { PendingKind } from "../../src/store/pending-authorizations.ts";
import type { Store } from "../../src/store/store.ts";
import { askForDelegation } from "../support/ask-for-delegation.ts";
import { rowsOf } from "../support/rows-of.ts";
import { audit, connection, inSeconds, registration, signIn, signingKey, upstreamToken } from "./samples.ts";

/*
 * Everything the product asks its store, one call after another: query-plans.test.ts reads what the database did for it, and reports
 * operations that are missing here.
 */

/** @param routes all routes of the connections in the database, and what they are called with */
export async function runEveryOperation(
  store: Store,
  routes: readonly { readonly routeId: string; readonly upstream: string }[],
): Promise<void> {
  await store.ping();
  await people(store);
  await connections(store);
  await authorizationServer(store);
  await serviceAccounts(store);
  await sessions(store);
  await administrators(store);
  await configuration(store);
  await lists(store);
  await background(store, routes);
  await auditTrail(store);
}

async function auditTrail({ auditTrail: trail, signingKeys }: Store): Promise<void> {
  const at = await trail.now();
  for await (const page of trail.pagesSince(inSeconds(-60))) await trail.chained(page.map(({ id }) => id));
  await trail.events([1], { from: inSeconds(-60), to: at });
  await trail.eventTimes(0, 100);
  const batch = {
    number: 1_000_000,
    ids: [1],
    hashes: Buffer.alloc(32),
    previous: "",
    hash: "",
    checkpoint: "",
  };
  await trail.append({ ...batch, firstAt: at, lastAt: at });
  await trail.latest();
  await trail.batches(0, 10);
  await trail.firstBatchSince(inSeconds(-60));
  await trail.saveExported("https://collector.example.com/", undefined, { number: 1, hash: "h" });
  await trail.saveExported("https://collector.example.com/", 1, { number: 2, hash: "h" });
  await trail.exported("https://collector.example.com/");
  await trail.partitions.names();
  await trail.partitions.hasExpired(inSeconds(-500 * 86_400));
  await trail.partitions.removeExpired(inSeconds(-500 * 86_400));
  await trail.removeBatches(1);
  for (const kid of ["audit-1", "audit-2"])
    await signingKeys.rotate(
      signingKey({ kid, purpose: "audit" }),
      inSeconds(86_400),
      audit("signing_key.rotated"),
    );
  await signingKeys.removeReplaced("audit", inSeconds(60));
}

const { userId } = connection;
const owner = randomUUID();

async function people(store: Store): Promise<void> {
  const { signInSessions, browserSessions, pendingAuthorizations, usedValues } = store;
  const record = { ...signIn(userId), sid: "session-at-the-provider", tokensAt: 1 };
  await signInSessions.put(record, audit("person.signed_in"));
  await signInSessions.find(userId);
  await signInSessions.findBySid("company", record.sid);
  const later = inSeconds(1);
  await signInSessions.claimCheck(userId, record.checkedAt, later);
  await signInSessions.replace({ ...record, checkedAt: later }, { tokensAt: 1, checkedAt: later });
  await signInSessions.put(signIn("company/signing-out"));
  await store.endAccessOfPerson("company/signing-out", audit("person.signed_out"));

  const session = { host: "files.example.com", userId, createdAt: new Date(), expiresAt: inSeconds(600) };
  await browserSessions.create({ ...session, id: "browser" });
  const parentName = "an ended session";
  await browserSessions.create({ ...session, id: "another host", parentName });
  await browserSessions.find("browser");
  await browserSessions.isLive("browser");
  await browserSessions.end("browser", audit("person.signed_out"));
  await browserSessions.endForUser(userId, audit("person.signed_out"));

  for (const kind of ["sign_in", "upstream"] satisfies PendingKind[]) {
    const pending = { kind, state: `${kind} state`, userId, expiresAt: inSeconds(60), payload: {} };
    await pendingAuthorizations.create(pending, 5);
    await pendingAuthorizations.find(kind, pending.state);
    await pendingAuthorizations.consume(kind, pending.state);
  }
  await usedValues.take("logout_token", "jti", inSeconds(60));
  await usedValues.isTaken("logout_token", "jti");
}

async function connections({ upstreamTokens }: Store): Promise<void> {
  const obtained = audit("upstream_token.obtained");
  const basis = {
    version: undefined,
    disconnects: await upstreamTokens.disconnects(connection),
    signedIn: true,
  };
  await upstreamTokens.put(upstreamToken(), obtained, basis);
  const version = await upstreamTokens.put(upstreamToken(), obtained);
  await upstreamTokens.find(connection);
  await upstreamTokens.findWithRequiredScopes(connection);
  await upstreamTokens.listForUser(userId);
  await upstreamTokens.recordUses([connection]);
  await upstreamTokens.requireScopes(connection, { scopes: ["write"], requiredAt: new Date() });
  await upstreamTokens.findRequiredScopes(connection);
  await upstreamTokens.clearRequiredScopes(connection);
  await upstreamTokens.takeLease(connection, version, owner, inSeconds(10));
  await upstreamTokens.releaseLease(connection, version, owner);
  await upstreamTokens.takeLease(connection, version, owner, inSeconds(10), false);
  await upstreamTokens.recordRejection(connection, version, owner, new Date());
  await upstreamTokens.takeLease(connection, version, owner, inSeconds(10));
  const refreshed = audit("upstream_token.refreshed");
  const replaced = await upstreamTokens.replace(upstreamToken(), version, owner, refreshed);
  await upstreamTokens.deleteVersion(connection, replaced?.version ?? 0, audit("upstream_token.rejected"));
  await upstreamTokens.put(upstreamToken(), obtained);
  await upstreamTokens.delete(connection, audit("upstream_token.disconnected"), "route");
  await upstreamTokens.put(upstreamToken(), obtained);
}

async function authorizationServer(store: Store): Promise<void> {
  const { authorizationServerRecords: records, grantedMembers, aggregateSessions } = store;
  const [grantId, clientId] = ["grant", "https://client.example.com"];
  const payload = { accountId: userId, clientId, grantId };
  const until = { expiresAt: inSeconds(3600) };
  const members = [{ routeId: "files", upstream: connection.upstream }];
  await records.upsertIfAllowed(
    { model: "Grant", id: grantId, payload, ...until },
    audit("grant.created"),
    members,
  );
  await records.upsertIfAllowed({ model: "RefreshToken", id: "first", payload, ...until });
  await records.upsert({ model: "Session", id: "s", payload: { uid: "uid", userCode: "code" }, ...until });
  await records.find("RefreshToken", "first");
  await records.findByUid("Session", "uid");
  await records.findByUserCode("Session", "code");
  await records.rotateRefreshToken("first", { id: "second", payload, ...until }, 30);
  await records.successorOf("first", audit("external_token.issued"));
  await records.forgetSuccessor("first");
  await records.consume("RefreshToken", "second");
  await records.destroy("RefreshToken", "second");
  await records.grantIsLive(grantId);
  await records.clientHasGrant(clientId);
  await records.grants({ userId });
  await records.grants({ userId, clientId });
  await rowsOf(records.grantPages({ clientId }));
  await records.grantsOfRecords({ grantId });
  await rowsOf(records.grantPages({ grantId }));
  const more = [...members, { routeId: "mail", upstream: "https://mail.example.com/mcp" }];
  await grantedMembers.allow({ grantId, userId }, more, {});
  await grantedMembers.of(grantId);
  await grantedMembers.ofGrants([grantId, "another grant"]);
  await grantedMembers.remove(grantId, "mail", {});

  const session = { userId, grantId, routeId: "all", state: { members: [] }, ...until };
  await aggregateSessions.create({ ...session, handle: "first" }, 1);
  await aggregateSessions.create({ ...session, handle: "second" }, 1);
  await aggregateSessions.find("second", "store");
  await aggregateSessions.versions(["first", "second"]);
  await aggregateSessions.update("second", 1, {}, inSeconds(60));
  await aggregateSessions.remove("second");

  await records.upsertIfAllowed({ model: "Grant", id: "to destroy", payload, ...until });
  await records.createAlone({ model: "Grant", id: "to destroy", payload, ...until });
  await records.destroy("Grant", "to destroy");
  await records.revokeGrant(grantId, audit("grant.revoked"));
}

async function serviceAccounts(store: Store): Promise<void> {
  const { delegations } = store;
  const grantId = randomUUID();
  const [account, expiresAt] = ["service-account/ci", inSeconds(3600)];
  await askForDelegation(store, {
    grantId,
    account,
    ownerId: userId,
    routeIds: [connection.routeId],
    expiresAt,
  });
  const which = { grantId, ownerId: userId, routeId: connection.routeId };
  const given = { ...which, upstream: connection.upstream };
  await delegations.give(given, audit("delegation.created"));
  await delegations.ofGrant(grantId);
  await delegations.ofGrants([grantId, "another grant"]);
  await delegations.ofOwner(userId);
  await delegations.end(which, audit("delegation.ended"));
  await delegations.give(given, audit("delegation.created"));
  await delegations.endAllOf(userId, "signed out");
}

async function sessions(store: Store): Promise<void> {
  const { elicitationSessions, replicaMessages } = store;
  const session = { userId, routeId: "files", sessionId: "of the client" };
  await elicitationSessions.record(session);
  await elicitationSessions.has(session);
  const received = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
  const stop = replicaMessages.receive("replica", (payload) =>
    received[payload === "to one" ? 0 : 1].resolve(),
  );
  await replicaMessages.send("replica", "to one");
  await received[0].promise;
  await replicaMessages.broadcast("to all");
  await received[1].promise;
  stop();
}

async function administrators({ adminSessions, replicas }: Store): Promise<void> {
  const ofBrowser = { sessionName: "browser", userId, expiresAt: inSeconds(600) };
  await adminSessions.addCode({ code: "code", ...ofBrowser });
  await adminSessions.takeCode("code");
  await adminSessions.create({ id: "former", ...ofBrowser }, audit("admin.signed_in"));
  await adminSessions.create({ id: "id", ...ofBrowser }, audit("admin.signed_in"), "former");
  await adminSessions.find("id");
  await adminSessions.end("id", audit("admin.signed_out"));
  await replicas.report({ name: "host:1", version: "1.0.0", startedAt: new Date() });
  await replicas.list();
  await replicas.remove("host:1");
}

async function configuration(store: Store): Promise<void> {
  const { clientRegistrations, clientIssuers, routeIssuers, signingKeys, storedRoutes } = store;
  const { issuer, redirectUri, clientId } = registration();
  await clientRegistrations.find(issuer, redirectUri);
  await clientRegistrations.getOrRegister(issuer, redirectUri, async () => registration());
  await clientRegistrations.rotateSecret(issuer, redirectUri, clientId, async () => registration());
  await clientRegistrations.update(issuer, redirectUri, clientId, (current) => current);
  await clientRegistrations.delete(issuer, redirectUri, clientId);
  const failed = clientRegistrations.getOrRegister(issuer, redirectUri, () =>
    Promise.reject(new Error("down")),
  );
  await failed.catch(() => {});
  const { routeId, upstream } = connection;
  await clientIssuers.keep({ routeId, upstream, clientId }, issuer, false);
  await clientIssuers.keep({ routeId, upstream, clientId }, "https://another.example.com", true);
  await routeIssuers.add({ routeId, upstream }, issuer);
  await routeIssuers.of(issuer);
  await routeIssuers.remove({ routeId, upstream }, issuer);
  await signingKeys.ensure("external_token", async () => signingKey());
  await signingKeys.list("external_token");
  const rotated = audit("signing_key.rotated");
  await signingKeys.rotate(signingKey({ kid: "key-2" }), inSeconds(60), rotated);
  const route = { id: "files", place: "files.example.com/", entry: {} };
  await storedRoutes.create(route, audit("route.created"));
  const [stored] = await storedRoutes.list();
  const version = stored?.version ?? 0;
  await storedRoutes.replace(route, version, audit("route.changed"));
  await storedRoutes.delete("files", audit("route.deleted"), version + 1);
}

/** What operators list and export. */
async function lists(store: Store): Promise<void> {
  await store.audit(audit("policy.denied"));
  await store.auditEvents({ limit: 100, settled: true });
  await store.auditEvents({ limit: 100, after: 50, action: "policy.denied" });
  await store.auditEvents({ limit: 100, since: inSeconds(-3600), until: new Date() });
  await store.upstreamTokens.list({ userId });
  await store.upstreamTokens.list({ userId, routeId: "route-3" });
  await rowsOf(store.upstreamTokens.pages({}));
  await rowsOf(store.upstreamTokens.pages({ userId }));
  await rowsOf(store.upstreamTokens.pages({ routeId: "route-3" }));
  await rowsOf(store.authorizationServerRecords.grantPages({}));
  await rowsOf(store.authorizationServerRecords.grantPages({ userId }));
}

/** What every replica does by itself. */
async function background(
  store: Store,
  routes: readonly { readonly routeId: string; readonly upstream: string }[],
): Promise<void> {
  const { upstreamTokens, orphanedUpstreams, delegations, backgroundWork } = store;
  await rowsOf(upstreamTokens.dueForRefresh({ aheadMs: 120_000, lastPart: 0.2, usedWithin: 604_800 }));
  // So far ahead that some are dormant.
  await rowsOf(upstreamTokens.dueForRefresh({ aheadMs: 30 * 86_400_000, usedWithin: 60 }));
  await upstreamTokens.setRefreshFinal(connection, new Date());
  const connected = await orphanedUpstreams.connected(undefined, 500);
  await orphanedUpstreams.connected(connected[0], 500);
  await orphanedUpstreams.add(connected);
  await orphanedUpstreams.list(undefined, 500);
  await orphanedUpstreams.remove(routes);
  for (const upstream of await orphanedUpstreams.marked(undefined, 500))
    await orphanedUpstreams.unmark(upstream, 500);
  // The first call begins the grace period of what no earlier version has marked.
  for (let call = 0; call < 2; call++) await orphanedUpstreams.connections(0, 200);
  await delegations.ownersToCheck(new Date(), "", 500);
  await backgroundWork.run("refresh", 0, async () => {});
  await store.removeExpired(new Date());
}

/**
 * What walks through whole tables on purpose, at the end: the last one leaves no access.
 * @param store with a newer encryption key than that of the other operations
 */
export async function runMaintenance(store: Store): Promise<void> {
  await store.rotateEncryptionKeys();
  await store.endAccess(signingKey({ kid: "key-3" }), "after a restore");
}
