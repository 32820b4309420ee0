import { expect, it } from "vitest";
import { connectOrigin, hasOneOAuthRoute } from "../../src/config/callback-urls.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { onlyRouteOf, reservedResource, routeOfResource } from "../../src/config/resources.ts";
import { createRouteTable } from "../../src/config/route-table.ts";
import { buildStoredRoutes, type StoredEntry, type UnusableRows } from "../../src/config/stored-routes.ts";
import { configFile } from "./config-file.ts";

const server = (id: string, from: string, mcp: object = { server: {} }) => ({
  ...{ id, place: from.replace(/^https:\/\//, "") },
  entry: { from: from.replace(/\/$/, ""), mcp, ...("aggregate" in mcp ? {} : { to: "https://u.internal" }) },
});
const none = { server: { upstream_auth: "none" } };
const application = { client: {} };

function build(entries: readonly StoredEntry[], unusable: Partial<UnusableRows> = {}) {
  const loaded = loadConfig(
    configFile(`issuer: https://auth.test
sign_in: {providers: [{issuer: https://id.test, client_id: c}]}
policy: {allow: {and: [{accept: true}]}}
routes:
  - {id: one, from: https://h.test/one, to: https://one.internal, mcp: {server: {}}}
`),
    {},
  );
  if (!loaded.ok) throw new Error("invalid");
  const built = buildStoredRoutes(loaded.config, entries, { unreadable: [], rejected: [], ...unusable });
  return { ...built, table: createRouteTable(built.config) };
}
const unreadable = (id: string, place: string) => ({ unreadable: [{ id, place }] });

it("counts reserved routes where it matters whether a host has one route", () => {
  const { table } = build([], unreadable("lost", "h.test/lost"));
  const [one] = table.config.routes;
  expect(one && table.isOnlyRouteOfHost(one)).toBe(false);
  expect(hasOneOAuthRoute(table.config, "h.test")).toBe(false);
  expect([onlyRouteOf(table, "h.test"), onlyRouteOf(table)]).toEqual([undefined, undefined]);
  expect(routeOfResource(table, "https://h.test")).toBeUndefined();
  for (const resource of ["https://h.test", "https://h.test/lost", "https://h.test/lost/x"])
    expect(reservedResource(table, resource)?.id).toBe("lost");
  for (const resource of ["https://h.test/one", "https://h.test/other", "nonsense"])
    expect(reservedResource(table, resource)).toBeUndefined();
});

it("does not count one without a place, or one that needs no consent", () => {
  const twin = {
    ...server("twin", "https://h.test/one"),
    entry: { ...server("", "https://h.test/one").entry },
  };
  const { table } = build([twin]);
  const [one] = table.config.routes;
  expect(table.reservedById("twin")?.reason).toBe("route_invalid");
  expect(one && table.isOnlyRouteOfHost(one)).toBe(true);
  expect(hasOneOAuthRoute(table.config, "h.test")).toBe(true);
  const open = server("open", "https://h.test/open", none);
  expect(hasOneOAuthRoute(build([], { rejected: [open] }).config, "h.test")).toBe(true);
  const invalid = { ...open, entry: { ...open.entry, newer: 1 } };
  expect(hasOneOAuthRoute(build([invalid]).config, "h.test")).toBe(true);
});

it("does not count a disabled one that is invalid", () => {
  const off = server("off", "https://h.test/off");
  const { table } = build([{ ...off, entry: { ...off.entry, newer: 1, enabled: false } }]);
  expect(table.reservedById("off")?.reason).toBe("route_invalid");
  expect(onlyRouteOf(table, "h.test")?.id).toBe("one");
  expect(reservedResource(table, "https://h.test/off")).toBeUndefined();
});

it("connects routes at the issuer's host if an unreadable one may be an application of theirs", () => {
  const { config } = build([], unreadable("lost", "h.test/"));
  const [one] = config.routes;
  expect(one && connectOrigin(config, one)).toBe("https://auth.test");
});

it("keeps routes in force that name a reserved one", () => {
  const names = [
    server("all", "https://all.test/", { aggregate: { routes: ["one", "lost", "https://other.test"] } }),
    server("app", "https://app.test/", { client: { routes: ["lost"] } }),
  ];
  const lost = unreadable("lost", "lost.test/");
  const invalid = { ...server("other", "https://other.test/") };
  const entries = [...names, { ...invalid, entry: { ...invalid.entry, newer: 1 } }];
  expect([...build(entries, lost).problems.keys()].toSorted()).toEqual(["lost", "other"]);
  expect([...build(names).problems.keys()]).toEqual(["all", "app"]);
});

it("keeps an MCP route from the host of a reserved application", () => {
  const app = server("app", "https://app.test/", application);
  const later = server("later", "https://app.test/mcp");
  const invalid = { ...app, entry: { ...app.entry, newer: 1 } };
  expect([...build([invalid, later]).problems.keys()]).toEqual(["app", "later"]);
  // But not that of a row that was forged, perhaps with the entry of a former application.
  expect([...build([later], { rejected: [app] }).problems.keys()]).toEqual(["app"]);
  const shared = server("app", "https://app.test/", { client: { shares_host: true } });
  expect([...build([later], { rejected: [shared] }).problems.keys()]).toEqual(["app"]);
});

it("has another fingerprint with a reserved route, so that replicas without it do not answer for it", () => {
  const [without, withOne] = [build([]), build([], unreadable("lost", "lost.test/"))];
  expect(without.table.fingerprint()).not.toBe(withOne.table.fingerprint());
});

it("ignores a rejected row without a place, except for its id", () => {
  const { table } = build([], { rejected: [{ id: "lost", entry: { to: "https://x.test" } }] });
  expect(table.reservedById("lost")).toEqual(expect.objectContaining({ reason: "route_row_rejected" }));
  expect(table.reservedAt("h.test", "/lost")).toBeUndefined();
});
