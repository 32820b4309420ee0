import { expect, it } from "vitest";
import { changes } from "./changes.ts";
import { describeStore } from "./describe-store.ts";
import { audit, inSeconds, signingKey } from "./samples.ts";

describeStore("signing keys", (store) => {
  it("creates the first key of a purpose once", async () => {
    let made = 0;
    const lists = await Promise.all(
      Array.from({ length: 5 }, () =>
        store().signingKeys.ensure("assertion", async () =>
          signingKey({ kid: `a-${++made}`, purpose: "assertion" }),
        ),
      ),
    );
    expect(new Set(lists.map((keys) => keys.map(({ kid }) => kid).join()))).toHaveProperty("size", 1);
  });

  it("rotation: the new key first, the old one until it expires", async () => {
    const made = changes(store());
    const [old] = await store().signingKeys.ensure("external_token", async () => signingKey({ kid: "old" }));
    await made.next;
    made.stop();
    const { next, stop } = changes(store());
    await store().signingKeys.rotate(
      signingKey({ kid: "new", activeAt: inSeconds(5) }),
      inSeconds(60),
      audit("signing_key.rotated"),
    );
    expect(await next).toEqual({ table: "signing_key" });
    stop();
    const keys = await store().signingKeys.list("external_token");
    expect(keys.map(({ kid }) => kid)).toEqual(["new", "old"]);
    expect(keys[0]).not.toHaveProperty("expiresAt");
    expect(keys[1]?.expiresAt).toBeInstanceOf(Date);
    expect(keys[1]?.privateJwk).toEqual(old?.privateJwk);
    await store().signingKeys.rotate(
      signingKey({ kid: "newest" }),
      inSeconds(-1),
      audit("signing_key.rotated"),
    );
    expect((await store().signingKeys.list("external_token")).map(({ kid }) => kid)).toEqual(["newest"]);
  });
});
