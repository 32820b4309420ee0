import { afterEach, beforeEach, expect, it } from "vitest";
import { followStoredRoutes, type StoredRoutesFollower } from "../../src/admin/follow-stored-routes.ts";
import { createLiveConfig, type LiveConfig } from "../../src/config/live-config.ts";
import { StoreUnavailable } from "../../src/store/errors.ts";
import type { Store } from "../../src/store/store.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { configFile } from "../config/config-file.ts";
import { type Backend, backends, makeKeys } from "../store/backends.ts";
import { audit } from "../store/samples.ts";

const file = `issuer: https://auth.test
sign_in: {providers: [{issuer: https://id.test, client_id: c}]}
policy: {allow: {and: [{accept: true}]}}
routes: []
`;
const log: string[] = [];
const logger = createLogger({ level: "info", destination: { write: (line) => void log.push(line) } });
let backend: Backend;
let writer: Store;
let reader: Store;
let live: LiveConfig;
let follower: StoredRoutesFollower | undefined;
/** Whether the key service answers the reader. */
let answers: boolean;
/** How often the reader has decrypted something. */
let decrypted = 0;

beforeEach(async () => {
  log.length = 0;
  answers = true;
  backend = await backends.postgres();
  writer = await backend.open();
  const keys = await makeKeys("k1");
  reader = await backend.open({
    keys: {
      ...keys,
      async decryptionKey(header) {
        decrypted += 1;
        if (!answers) throw new StoreUnavailable("key service", new Error("no answer"));
        return keys.decryptionKey(header);
      },
    },
  });
  live = createLiveConfig({ file: configFile(file), env: {}, metrics: createMetrics() });
  await create("first");
});
afterEach(async () => {
  follower?.close();
  follower = undefined;
  live?.close();
  await reader?.close();
  await writer?.close();
  await backend?.close();
});

const create = (id: string, to = "https://u.internal") =>
  writer.storedRoutes.create(
    {
      ...{ id, place: `${id}.test/` },
      entry: {
        ...{ from: `https://${id}.test`, to },
        mcp: { server: { upstream_auth: "none" } },
      },
    },
    audit("route.created"),
  );
const follow = () => followStoredRoutes({ store: reader, live, logger });
const inForce = () => live.current().config.routes.map(({ id }) => id);

it("does not start without a key service that the stored routes need: they would be out of force", async () => {
  await reader.storedRoutes.list();
  await create("second");
  answers = false;
  await expect(follow()).rejects.toThrow(StoreUnavailable);
  expect(live.current().config.reserved).toEqual([]);
});

it("keeps the routes in force while the key service does not answer, and loads the others as soon as it does", async () => {
  follower = await follow();
  expect(inForce()).toEqual(["first"]);
  answers = false;
  await create("second");
  await expect.poll(() => log.join(""), { timeout: 60_000 }).toContain("reloading the stored routes failed");
  expect([inForce(), live.current().config.reserved]).toEqual([["first"], []]);
  await expect(follower.refresh()).rejects.toThrow(StoreUnavailable);
  answers = true;
  await expect.poll(inForce, { timeout: 60_000 }).toEqual(["first", "second"]);
});

it("takes a route that was deleted and created again between two loads, and not its predecessor", async () => {
  follower = await follow();
  answers = false;
  await create("second");
  await expect(follower.refresh()).rejects.toThrow(StoreUnavailable);
  await writer.storedRoutes.delete("first", audit("route.deleted"));
  await create("first", "https://other.internal");
  await writer.storedRoutes.delete("second", audit("route.deleted"));
  answers = true;
  await follower.refresh();
  expect(live.current().byId("first")?.to).toEqual(["https://other.internal"]);
});

it("decrypts and parses only routes that have changed", async () => {
  follower = await follow();
  const before = live.current().byId("first");
  expect(before).toBeDefined();
  const asked = decrypted;
  await create("second");
  await follower.refresh();
  expect(decrypted).toBe(asked + 1);
  expect(live.current().byId("first")).toBe(before);
  expect(live.tryStoredRoutes(await reader.storedRoutes.list()).read.get("first")).toBe(before);
  expect(decrypted).toBe(asked + 1);
});
