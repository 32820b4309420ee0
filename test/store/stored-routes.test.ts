import { expect, it } from "vitest";
import { changes } from "./changes.ts";
import { describeStore } from "./describe-store.ts";
import { audit } from "./samples.ts";

describeStore("routes of the admin API", (store) => {
  const route = (id: string, place = `${id}.example.com/`) => ({
    id,
    place,
    entry: { from: `https://${place}`, secret: "hidden" },
  });

  it("are created once, by id and by host and path, and all replicas are notified", async () => {
    const { next, stop } = changes(store());
    const both = await Promise.all([
      store().storedRoutes.create(route("one"), audit("route.created")),
      store().storedRoutes.create(route("one"), audit("route.created")),
    ]);
    expect(both.toSorted()).toEqual([false, true]);
    expect(await next).toEqual({ table: "stored_route" });
    stop();
    expect(await store().storedRoutes.create(route("two", "one.example.com/"), audit("route.created"))).toBe(
      false,
    );
    expect(await store().storedRoutes.list()).toMatchObject([route("one")]);
  });

  it("are changed only with the newest version, and not to another route's host and path", async () => {
    const { storedRoutes } = store();
    await storedRoutes.create(route("three"), audit("route.created"));
    const first = (await storedRoutes.list()).find(({ id }) => id === "three")?.version ?? 0;
    const changed = { ...route("three"), entry: { from: "https://elsewhere" } };
    expect(await storedRoutes.replace(changed, first, audit("route.changed"))).toBe("replaced");
    expect(await storedRoutes.replace(changed, first, audit("route.changed"))).toBe("changed");
    expect(
      await storedRoutes.replace(
        { ...changed, place: "one.example.com/" },
        first + 1,
        audit("route.changed"),
      ),
    ).toBe("duplicate");
    expect((await storedRoutes.list()).find(({ id }) => id === "three")).toMatchObject({
      version: first + 1,
      entry: { from: "https://elsewhere" },
    });
  });

  it("are decrypted again only where they were changed: each could take a request to a key service", async () => {
    const { storedRoutes } = store();
    const find = async (id: string) => (await storedRoutes.list()).find((one) => one.id === id);
    const [one, three] = [await find("one"), await find("three")];
    const changed = { ...route("three"), entry: { from: "https://third" } };
    await storedRoutes.replace(changed, three?.version ?? 0, audit("route.changed"));
    // The same object, which also tells that there is nothing to parse.
    expect((await find("one"))?.entry).toBe(one?.entry);
    expect((await find("three"))?.entry).toEqual({ from: "https://third" });
    expect(three?.entry).toEqual({ from: "https://elsewhere" });
  });

  it("are deleted once", async () => {
    expect(await store().storedRoutes.delete("three", audit("route.deleted"))).toBe(true);
    expect(await store().storedRoutes.delete("three", audit("route.deleted"))).toBe(false);
  });

  it("leave an audit trail that can be read in pages, by kind", async () => {
    const first = await store().auditEvents({ action: "route.created", limit: 1 });
    expect(first).toHaveLength(1);
    const rest = await store().auditEvents({ after: first[0]?.id, limit: 100 });
    expect(rest.map(({ action }) => action)).toEqual([
      "route.created",
      "route.changed",
      "route.changed",
      "route.deleted",
    ]);
    expect(await store().auditEvents({ until: new Date(0), limit: 1 })).toEqual([]);
  });
});
