import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Store } from "../../src/store/store.ts";
import { type Backend, backends, makeKeys } from "./backends.ts";
import { changes } from "./changes.ts";
import { audit, connection, inSeconds, registration, signingKey, upstreamToken } from "./samples.ts";

describe("two replicas on one Postgres", () => {
  let backend: Backend;
  let here: Store;
  let there: Store;
  beforeEach(async () => {
    backend = await backends.postgres();
    [here, there] = await Promise.all([backend.open(), backend.open({ registrationLeaseMs: 1_000 })]);
  });
  afterEach(async () => {
    vi.useRealTimers();
    await Promise.all([here?.close(), there?.close()]);
    await backend?.close();
  });

  it("notifies the other replica of a revoked grant", async () => {
    await here.authorizationServerRecords.upsert({ model: "Grant", id: "g", payload: {} });
    const { next } = changes(there);
    await here.authorizationServerRecords.revokeGrant("g", audit("grant.revoked"));
    expect(await next).toEqual({ table: "grant", grantId: "g" });
  });

  it("notifies only of committed changes, not of failed ones", async () => {
    const { seen, next: notified, stop } = changes(there);
    const version = await here.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
    await notified;
    await expect(
      here.signingKeys.rotate(
        signingKey({ privateJwk: { n: 1n } }),
        new Date(),
        audit("signing_key.rotated"),
      ),
    ).rejects.toThrow();
    const { next } = changes(there);
    await here.upstreamTokens.deleteVersion(connection, version, audit("upstream_token.rejected"));
    await next;
    expect(seen.map(({ table }) => table)).toEqual(["upstream_token", "upstream_token"]);
    stop();
  });

  it("leases a refresh to one of them", async () => {
    const version = await here.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
    const taken = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        (i % 2 ? here : there).upstreamTokens.takeLease(connection, version, `${i}`, inSeconds(30)),
      ),
    );
    expect(taken.filter(Boolean)).toHaveLength(1);
  });

  describe("background work", () => {
    const everyMs = 60_000;
    const done = async () => "done";

    it("is begun by one of them, once in its interval", async () => {
      const [first, second] = await Promise.all(
        [here, there].map((store) => store.backgroundWork.run("work", everyMs, done)),
      );
      expect([first, second].filter(Boolean)).toEqual(["done"]);
      for (const store of [here, there])
        expect(await store.backgroundWork.run("work", everyMs, done)).toBeUndefined();
      expect(await there.backgroundWork.run("other work", everyMs, done)).toBe("done");
      await backend.query("update background_work set started_at = started_at - interval '1 minute'");
      expect(await there.backgroundWork.run("work", everyMs, done)).toBe("done");
      // The database's clock was ahead once.
      for (const future of ["started_at", "lease_until"]) {
        await backend.query(`update background_work set ${future} = now() + interval '1 year'`);
        expect(await here.backgroundWork.run("work", 0, done), future).toBe("done");
      }
    });

    it("is done by one at a time, and by the other one after a failure", async () => {
      const [begun, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const long = here.backgroundWork.run("work", 0, () => {
        begun.resolve();
        return released.promise;
      });
      await begun.promise;
      for (const store of [here, there])
        expect(await store.backgroundWork.run("work", 0, done)).toBeUndefined();
      released.reject(new Error("failed"));
      await expect(long).rejects.toThrow("failed");
      expect(await there.backgroundWork.run("work", 0, done)).toBe("done");
    });

    it("of one that has died is taken over when its lease has expired; if it lives, it stops", async () => {
      vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
      const [begun, stopped] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      let reason = "";
      const long = here.backgroundWork.run("work", 0, (signal) => {
        begun.resolve();
        signal.addEventListener("abort", () => {
          reason = String(signal.reason);
          stopped.resolve();
        });
        return stopped.promise;
      });
      await begun.promise;
      const lease = await backend.query(
        "select lease_until <= now() + interval '1 minute' as short from background_work",
      );
      expect(lease).toEqual([{ short: true }]);
      await backend.query("update background_work set lease_until = now()");
      const ending = Promise.withResolvers<void>();
      const taken = there.backgroundWork.run("work", 0, () => ending.promise);
      await expect
        .poll(() => backend.query("select lease_until > now() as taken from background_work"))
        .toEqual([{ taken: true }]);
      vi.advanceTimersByTime(20_000);
      await expect.poll(() => reason).toContain("another replica");
      await long;
      ending.resolve();
      await taken;
    });

    it("of one that stops is aborted and left to the other", async () => {
      const begun = Promise.withResolvers<void>();
      const long = here.backgroundWork.run("work", 0, (signal) => {
        begun.resolve();
        return new Promise((resolve) => signal.addEventListener("abort", resolve));
      });
      await begun.promise;
      await here.close();
      await long;
      expect(await there.backgroundWork.run("work", 0, done)).toBe("done");
    });
  });

  it("gives the code to only one of 20 concurrent callers on both", async () => {
    await here.authorizationServerRecords.upsert({ model: "RefreshToken", id: "r", payload: {} });
    const won = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        (i % 2 ? here : there).authorizationServerRecords.consume("RefreshToken", "r"),
      ),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
  });

  it("creates the first signing key once", async () => {
    const lists = await Promise.all(
      [here, there].map((store, i) =>
        store.signingKeys.ensure("external_token", async () => signingKey({ kid: `k${i}` })),
      ),
    );
    expect(lists[0]?.map(({ kid }) => kid)).toEqual(lists[1]?.map(({ kid }) => kid));
    expect(lists[0]).toHaveLength(1);
  });

  it("registers once, while the other replica waits", async () => {
    const { issuer, redirectUri } = registration();
    const started = Promise.withResolvers<void>();
    const finish = Promise.withResolvers<void>();
    const first = here.clientRegistrations.getOrRegister(issuer, redirectUri, async () => {
      started.resolve();
      await finish.promise;
      return registration({ clientId: "from here" });
    });
    await started.promise;
    const second = there.clientRegistrations.getOrRegister(issuer, redirectUri, async () => {
      throw new Error("must not be called");
    });
    expect(await Promise.race([second, delay(300, "waits")])).toBe("waits");
    finish.resolve();
    expect((await second).clientId).toBe("from here");
    expect(await first).toEqual(await second);
  });

  it("registers itself if the registering replica has died, whose late response changes nothing", async () => {
    const { issuer, redirectUri } = registration();
    const started = Promise.withResolvers<void>();
    const finish = Promise.withResolvers<void>();
    const dying = there.clientRegistrations.getOrRegister(issuer, redirectUri, async () => {
      started.resolve();
      await finish.promise;
      return registration({ clientId: "too late" });
    });
    await started.promise;
    const survivor = await here.clientRegistrations.getOrRegister(issuer, redirectUri, async () =>
      registration({ clientId: "survivor" }),
    );
    expect(survivor.clientId).toBe("survivor");
    finish.resolve();
    expect((await dying).clientId).toBe("survivor");
    expect((await here.clientRegistrations.find(issuer, redirectUri))?.clientId).toBe("survivor");
  });

  it("replaces a registration once; the old one is kept until then, and if the replica dies", async () => {
    const issuer = "https://outgrown.example";
    const { redirectUri } = registration();
    const getOr = (store: Store, clientId: string, wait?: Promise<void>) =>
      store.clientRegistrations.getOrRegister(
        issuer,
        redirectUri,
        async () => {
          started.resolve();
          await wait;
          return registration({ issuer, clientId });
        },
        { clientId: "old" },
      );
    const started = Promise.withResolvers<void>();
    await here.clientRegistrations.getOrRegister(issuer, redirectUri, async () =>
      registration({ issuer, clientId: "old" }),
    );
    const finish = Promise.withResolvers<void>();
    const dying = getOr(there, "too late", finish.promise);
    await started.promise;
    expect((await here.clientRegistrations.find(issuer, redirectUri))?.clientId).toBe("old");
    expect((await getOr(here, "survivor")).clientId).toBe("survivor");
    finish.resolve();
    expect((await dying).clientId).toBe("survivor");
    expect((await there.clientRegistrations.find(issuer, redirectUri))?.clientId).toBe("survivor");
  });

  it("replaces a registration once if the server returns the same client id", async () => {
    const issuer = "https://deduplicating.example";
    const { redirectUri } = registration();
    let registered = 0;
    const register = async () => {
      const clientSecret = `secret-${registered}`;
      return registration({ issuer, clientSecret, metadata: { registeredAt: ++registered } });
    };
    const { clientId } = await here.clientRegistrations.getOrRegister(issuer, redirectUri, register);
    const replaced = await Promise.all(
      [here, there, here, there].map((store) =>
        store.clientRegistrations.getOrRegister(issuer, redirectUri, register, { clientId, registeredAt: 1 }),
      ),
    );
    expect(registered).toBe(2);
    expect(new Set(replaced.map(({ clientSecret }) => clientSecret))).toEqual(new Set(["secret-1"]));
    // Nor again for a later caller that only knows the first one.
    const late = there.clientRegistrations.getOrRegister(issuer, redirectUri, register, {
      clientId,
      registeredAt: 1,
    });
    expect(await late).toMatchObject({ clientId, clientSecret: "secret-1" });
    expect(registered).toBe(2);
  });

  it.each([90, -90])(
    "handles leases and codes correctly on a replica whose clock is %i s off",
    async (seconds) => {
      const version = await here.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
      vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + seconds * 1_000 });
      const skewed = await backend.open();
      try {
        expect(
          await skewed.upstreamTokens.takeLease(connection, version, "skewed", inSeconds(10)),
        ).toBeDefined();
        const skewedExpiry = inSeconds(30);
        await skewed.pendingAuthorizations.create({
          kind: "handover",
          state: "s",
          expiresAt: skewedExpiry,
          payload: 1,
        });
        const found = await skewed.pendingAuthorizations.find("handover", "s");
        // The clocks are compared repeatedly, and the stopped clock of this test falls behind.
        expect(Math.abs((found?.expiresAt?.getTime() ?? 0) - skewedExpiry.getTime())).toBeLessThan(10_000);
        const due = await skewed.upstreamTokens.find(connection);
        const left = ((due?.expiresAt?.getTime() ?? 0) - Date.now()) / 1_000;
        expect(left).toBeGreaterThan(50);
        expect(left).toBeLessThan(65);
        vi.useRealTimers();
        expect(
          await here.upstreamTokens.takeLease(connection, version, "here", inSeconds(10)),
        ).toBeUndefined();
        expect(await here.pendingAuthorizations.find("handover", "s")).toBeDefined();
      } finally {
        await skewed.close();
      }
    },
  );

  it("rotates keys while the other replica writes, and loses none of its writes", async () => {
    for (let n = 0; n < 50; n++)
      await here.upstreamTokens.put(
        upstreamToken({ routeId: `r${n}`, accessToken: "old" }),
        audit("upstream_token.obtained"),
      );
    const rotating = await backend.open({ keys: await makeKeys("k2", "k1") });
    try {
      await Promise.all([
        rotating.rotateEncryptionKeys(),
        ...Array.from({ length: 50 }, (_, n) =>
          here.upstreamTokens.put(
            upstreamToken({ routeId: `r${n}`, accessToken: "new" }),
            audit("upstream_token.obtained"),
          ),
        ),
      ]);
      const tokens = await rotating.upstreamTokens.listForUser(connection.userId);
      expect(tokens).toHaveLength(50);
      expect(new Set(tokens.map(({ accessToken }) => accessToken))).toEqual(new Set(["new"]));
    } finally {
      await rotating.close();
    }
  });
});
