import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compatibilityPage } from "../../dev/docs/compatibility-page.ts";
import { type Client, clients, fingerprint, isWalked, type Upstream, upstreams } from "./catalog.ts";
import { walkClient } from "./client-flow.ts";
import { notYet } from "./not-yet.ts";
import { type Catalog, startCatalog } from "./start-catalog.ts";
import { startWalker, walkUpstream } from "./upstream-flow.ts";

/** Concurrent flows, for two cores. */
const walkers = 4;

const known = { upstreams: await upstreams(), clients: await clients() };

describe("the catalog", () => {
  let catalog: Catalog;
  const outcomes = new Map<string, string | undefined>();
  beforeAll(async () => {
    catalog = await startCatalog();
    const names = [...catalog.upstreams.keys()];
    const clientNames = [...catalog.clients.keys()];
    await Promise.all(
      Array.from({ length: walkers }, async () => {
        const walker = await startWalker(catalog);
        for (let name = names.shift(); name !== undefined; name = names.shift()) {
          outcomes.set(`upstreams ${name}`, await outcome(walkUpstream(catalog, walker, name)));
        }
        for (let name = clientNames.shift(); name !== undefined; name = clientNames.shift()) {
          outcomes.set(`clients ${name}`, await outcome(walkClient(catalog, walker, name)));
        }
      }),
    );
    // Eighty flows, possibly on a busy machine.
  }, 400_000);
  afterAll(() => catalog?.close());

  describe.each(["upstreams", "clients"] as const)("%s", (kind) => {
    const open = notYet[kind];
    const names = [...known[kind].keys()].filter(isWalked);
    it.each(names.filter((name) => !(name in open)))("%s completes the whole flow", (name) => {
      expect(outcomes.has(`${kind} ${name}`)).toBe(true);
      const failure = outcomes.get(`${kind} ${name}`);
      // The whole message: an assertion would truncate it.
      if (failure !== undefined) throw new Error(failure);
    });
    it.each(Object.keys(open))("%s does not work yet: when it does, remove it from not-yet.ts", (name) => {
      expect(outcomes.get(`${kind} ${name}`)).toBeTypeOf("string");
    });
  });

  it.each([
    ["upstreams", 40],
    ["clients", 25],
  ] as const)("%s: at least %i are documented, each with its own behavior", (kind, least) => {
    const files = new Map<string, Upstream | Client>(known[kind]);
    const prints = new Map<string, string[]>();
    for (const [name, entry] of files) {
      const print = fingerprint(entry);
      prints.set(print, [...(prints.get(print) ?? []), name]);
    }
    expect([...prints.values()].filter((names) => names.length > 1)).toEqual([]);
    const counted = [...files.values()].filter(({ guessed = [] }) => guessed.length === 0);
    expect(counted.length).toBeGreaterThanOrEqual(least);
  });
});

it("docs/compatibility-with.md matches the catalog (make docs writes it)", () => {
  const written = readFileSync(join(import.meta.dirname, "../../docs/compatibility-with.md"), "utf8");
  expect(written).toBe(compatibilityPage(known, notYet));
});

async function outcome(flow: Promise<void>): Promise<string | undefined> {
  return flow.then(
    () => undefined,
    (error: Error) => `${error.message}${error.cause instanceof Error ? `: ${error.cause.message}` : ""}`,
  );
}
