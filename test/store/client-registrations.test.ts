import { expect, it } from "vitest";
import { describeStore } from "./describe-store.ts";
import { inSeconds, registration } from "./samples.ts";

describeStore("client registrations", (store) => {
  const { issuer, redirectUri } = registration();

  it("registers once for any number of callers, per issuer and redirect URI", async () => {
    let registered = 0;
    const register = async () => registration({ clientId: `client-${++registered}` });
    const results = await Promise.all(
      Array.from({ length: 8 }, () =>
        store().clientRegistrations.getOrRegister(issuer, redirectUri, register),
      ),
    );
    expect(registered).toBe(1);
    expect(new Set(results.map(({ clientId }) => clientId))).toEqual(new Set(["client-1"]));
    expect(await store().clientRegistrations.find(issuer, redirectUri)).toEqual(registration());
    expect(await store().clientRegistrations.find("https://other.example.com", redirectUri)).toBeUndefined();
  });

  it("deletes exactly the client id that the server no longer knows, then registers again", async () => {
    await store().clientRegistrations.delete(issuer, redirectUri, "client-0");
    expect(await store().clientRegistrations.find(issuer, redirectUri)).toBeDefined();
    await store().clientRegistrations.delete(issuer, redirectUri, "client-1");
    expect(await store().clientRegistrations.find(issuer, redirectUri)).toBeUndefined();
    const again = await store().clientRegistrations.getOrRegister(issuer, redirectUri, async () =>
      registration({ clientId: "client-2" }),
    );
    expect(again.clientId).toBe("client-2");
  });

  it("passes a failed registration's error to its caller, and lets the next caller try at once", async () => {
    const failing = store().clientRegistrations.getOrRegister(
      "https://down.example",
      redirectUri,
      async () => {
        throw new Error("503");
      },
    );
    await expect(failing).rejects.toThrow("503");
    const made = await store().clientRegistrations.getOrRegister(
      "https://down.example",
      redirectUri,
      async () => registration({ issuer: "https://down.example" }),
    );
    expect(made.issuer).toBe("https://down.example");
  });

  it("replaces a registration once for any number of callers, and keeps it if the server does not create another", async () => {
    const { clientRegistrations } = store();
    const issuer = "https://outgrown.example";
    const old = registration({ issuer, clientId: "old" });
    await clientRegistrations.getOrRegister(issuer, redirectUri, async () => old);
    const failing = clientRegistrations.getOrRegister(
      issuer,
      redirectUri,
      async () => {
        throw new Error("503");
      },
      { clientId: "old" },
    );
    await expect(failing).rejects.toThrow("503");
    expect(await clientRegistrations.find(issuer, redirectUri)).toEqual(old);
    let registered = 0;
    const replaced = await Promise.all(
      Array.from({ length: 8 }, () =>
        clientRegistrations.getOrRegister(
          issuer,
          redirectUri,
          async () => {
            expect((await clientRegistrations.find(issuer, redirectUri))?.clientId).toBe("old");
            return registration({ issuer, clientId: `new-${++registered}` });
          },
          { clientId: "old" },
        ),
      ),
    );
    expect(new Set(replaced.map(({ clientId }) => clientId))).toEqual(new Set(["new-1"]));
    expect(await clientRegistrations.find(issuer, redirectUri)).toMatchObject({ clientId: "new-1" });
    // Also if the server returns the same client id again.
    const same = async () => registration({ issuer, clientId: "new-1", clientSecret: "another" });
    await clientRegistrations.getOrRegister(issuer, redirectUri, same, { clientId: "new-1" });
    expect(await clientRegistrations.find(issuer, redirectUri)).toMatchObject({ clientSecret: "another" });
    // And one that has been deleted in the meantime.
    await clientRegistrations.delete(issuer, redirectUri, "new-1");
    const deleted = { clientId: "new-1" };
    await clientRegistrations.getOrRegister(issuer, redirectUri, async () => old, deleted);
    expect(await clientRegistrations.find(issuer, redirectUri)).toEqual(old);
  });

  it("replaces a registration once if the server returns the same client id", async () => {
    const { clientRegistrations } = store();
    const issuer = "https://deduplicating.example";
    let registered = 0;
    const register = async () => registration({ issuer, metadata: { registeredAt: ++registered } });
    const { clientId } = await clientRegistrations.getOrRegister(issuer, redirectUri, register);
    const seen = { clientId, registeredAt: 1 };
    const replaced = await Promise.all(
      Array.from({ length: 4 }, () => clientRegistrations.getOrRegister(issuer, redirectUri, register, seen)),
    );
    expect(replaced.map(({ metadata }) => metadata.registeredAt)).toEqual([2, 2, 2, 2]);
    // Nor again for a later caller that only knows the first one.
    await clientRegistrations.getOrRegister(issuer, redirectUri, register, seen);
    expect(registered).toBe(2);
  });

  it("does not use an expired secret, and registers again", async () => {
    const issuer = "https://expiring.example";
    const expired = registration({ issuer, secretExpiresAt: inSeconds(-1) });
    await store().clientRegistrations.getOrRegister(issuer, redirectUri, async () => expired);
    expect(await store().clientRegistrations.find(issuer, redirectUri)).toBeUndefined();
    const fresh = registration({ issuer, clientId: "client-9", secretExpiresAt: inSeconds(60) });
    expect(await store().clientRegistrations.getOrRegister(issuer, redirectUri, async () => fresh)).toEqual(
      fresh,
    );
    expect(await store().clientRegistrations.find(issuer, redirectUri)).toEqual(fresh);
  });
});
