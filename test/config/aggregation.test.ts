import { expect, it } from "vitest";
import { isMember, memberHosts, membersOf } from "../../src/config/aggregates.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { buildStoredRoutes } from "../../src/config/stored-routes.ts";
import { configFile } from "./config-file.ts";
import { load } from "./load.ts";
import { problemsOf } from "./problems-of.ts";

const secret = "check-secret-0123456789-abcdefghijklmno";
const file = (top: string, routes = "[all]") => `issuer: https://auth.example.com
sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}
policy: {allow: {or: [{accept: true}]}}
${top}
routes:
  - {id: notes, from: https://notes.example.com, to: http://127.0.0.1:1, mcp: {}}
  - {id: all, from: https://all.example.com, mcp: {aggregate: {routes: ${routes}}}}
`;
const problems = (top = "{}", routes = "all") =>
  problemsOf(file(top === "{}" ? "" : top, routes)).map((problem) => problem.replace(/^\d+:\d+ /, ""));

it("accepts the default, a loopback address by any name, and https to anywhere", () => {
  expect(problems()).toEqual([]);
  for (const through of ["http://127.0.0.1:9", "http://localhost:9/", "http://[::1]:9", "https://envoy:8443"])
    expect(problems(`aggregation: {through: "${through}"}`)).toEqual([]);
  expect(problems('aggregation: {listen: "[::1]:8090"}')).toEqual([]);
});

it.each([
  ["{listen: 0.0.0.0:8090}", /^error aggregation\.listen: .* is not a loopback address/],
  ["{listen: gateway:8090}", /^error aggregation\.listen: .* -> write 127\.0\.0\.1:PORT/],
  ['{listen: "unix:/run/x"}', /^error aggregation\.listen: /],
  ["{through: http://envoy:8080}", /^error aggregation\.through: .* clear text -> write https:\/\/envoy/],
  ["{through: https://envoy/mcp}", /^error aggregation\.through: .* no path/],
])("rejects aggregation: %s", (aggregation, problem) => {
  expect(problems(`aggregation: ${aggregation}`)).toEqual([expect.stringMatching(problem)]);
});

it.each([
  ["[notes, notes]", "[1]: notes is the route of entry 1, too -> remove one of them"],
  [
    "[notes, https://notes.example.com/]",
    "[1]: https://notes.example.com/ is the route of entry 1, too -> remove one of them",
  ],
  ["[]", ": routes is empty -> write at least one entry"],
  ["[elsewhere]", "[0]: there is no route elsewhere -> write the id or `from` of an MCP route"],
  ["[all]", "[0]: all is this aggregated route itself -> write the id or `from` of an MCP route"],
  [
    "[more]",
    "[0]: more is an aggregated route, too: members are routes with one MCP server -> write the routes that more names",
  ],
  [
    "[app]",
    "[0]: app is the route of an application, not of an MCP server -> write the id or `from` of an MCP route",
  ],
  ['[""]', ": routes is empty -> write at least one entry"],
  ['[" ", " nowhere "]', "[1]: there is no route nowhere -> write the id or `from` of an MCP route"],
  ["[1]", "[0]: the entry must be a string, not a number -> write a string here"],
  ["notes", ': routes has a value of the wrong type -> write "all" or a list'],
])("names the entry and the fix of members that are wrong: %s", (routes, problem) => {
  const others = `
  - {id: more, from: https://more.example.com, mcp: {aggregate: {routes: all}}}
  - {id: app, from: https://app.example.com, to: http://127.0.0.1:2, mcp: {client: {}}}`;
  expect(problemsOf(file("", routes).trimEnd() + others).map((one) => one.replace(/^\d+:\d+ /, ""))).toEqual([
    `error routes[1].mcp.aggregate.routes${problem}`,
  ]);
});

it("members of a route in the database are checked in the same way", () => {
  const loaded = loadConfig(configFile(file("", "all")), {});
  if (!loaded.ok) throw new Error("invalid");
  const entry = { from: "https://two.example.com", mcp: { aggregate: { routes: ["notes", "notes"] } } };
  const built = buildStoredRoutes(loaded.config, [{ id: "two", entry }]);
  expect(built.problems.get("two")).toEqual([
    expect.objectContaining({
      path: "mcp.aggregate.routes.1",
      message: "notes is the route of entry 1, too",
      fix: "remove one of them",
    }),
  ]);
});

it("warns of an aggregated route without members, and says what to write for all of them", () => {
  const lines = file("", "all").split("\n");
  const alone = lines.filter((line) => !line.includes("id: notes")).join("\n");
  expect(problemsOf(alone)).toEqual([
    expect.stringMatching(/ warning routes\[0\]\.mcp\.aggregate\.routes: .* so this one has no tools -> /),
  ]);
  const renamed = file("", "[all]").replace("id: all", "id: everything");
  expect(problemsOf(renamed)).toEqual([
    expect.stringContaining(
      "there is no route all -> write routes: all, without brackets, for every MCP route",
    ),
  ]);
});

it("warns of routes that an application names without effect", () => {
  const app = (routes: string) =>
    problems(
      "{}",
      `all}}}\n  - {id: app, from: https://app.example.com, to: http://127.0.0.1:2, mcp: {client: {routes: ${routes}`,
    );
  expect(app("[notes]")).toEqual([]);
  expect(app("[notes, notes]")).toEqual([
    "warning routes[2].mcp.client.routes[1]: notes is named twice -> remove one of them",
  ]);
  expect(app("[all]")).toEqual([
    expect.stringMatching(/^warning routes\[2\]\.mcp\.client\.routes\[0\]: .* with 403 -> name its members/),
  ]);
});

it.each([
  ["envoy: {sidecar: {grpc: one:50051, http: one:8080}}", /it calls the sidecar at one:50051/],
  ["envoy: {listen: 127.0.0.1:8090}", /the address of envoy\.listen/],
  ["envoy: {listen: 0.0.0.0:8090}", /the address of envoy\.listen/],
  ["envoy: {admin: 127.0.0.1:8090}", /the address of envoy\.admin/],
])("rejects an aggregated route whose members the sidecar cannot reach: %s", (top, problem) => {
  const authenticated = `listen: {envoy_secret: ${secret}}\n${top}`;
  expect(problems(authenticated)).toEqual([expect.stringMatching(/^error routes\[1\]\.mcp\.aggregate: /)]);
  expect(problems(authenticated)).toEqual([expect.stringMatching(problem)]);
  expect(problems(`${authenticated}\naggregation: {through: https://envoy:8443}`)).toEqual([]);
});

it("leaves out every aggregated route of the database whose members the sidecar cannot reach", () => {
  const top = `listen: {envoy_secret: ${secret}}\nenvoy: {sidecar: {grpc: one:50051, http: one:8080}}`;
  const only = file(top)
    .split("\n")
    .filter((line) => !line.includes("id: all"))
    .join("\n");
  const loaded = loadConfig(configFile(only), {});
  if (!loaded.ok) throw new Error("invalid");
  const entry = (host: string) => ({
    from: `https://${host}.example.com`,
    mcp: { aggregate: { routes: "all" } },
  });
  const entries = ["one", "two"].map((id) => ({ id, entry: entry(id) }));
  const built = buildStoredRoutes(loaded.config, entries);
  expect([...built.problems.keys()]).toEqual(["one", "two"]);
  expect(built.config.routes.map(({ id }) => id)).toEqual(["notes"]);
});

it("needs aggregation.through for a fleet of Envoys", () => {
  const xds = `listen: {envoy_secret: ${secret}, grpc_tls: {certificate: a, key: b, client_ca: c}, http_tls: {certificate: a, key: b}, xds: {address: "0.0.0.0:18000", certificate: a, key: b, secret: xds-secret-0123456789-abcdefghijklmnop}}`;
  expect(problems(xds)).toContainEqual(
    expect.stringMatching(
      /^error routes\[1\]\.mcp\.aggregate: .*listen\.xds is set.* -> set aggregation\.through/,
    ),
  );
  expect(problems(`${xds}\naggregation: {through: https://envoy}`)).not.toContainEqual(
    expect.stringContaining("mcp.aggregate"),
  );
});

it("members are enabled routes, and only an enabled route has any", () => {
  const { config, table } = load(`
  - {id: a, from: https://a.example.com, to: http://x, mcp: {}}
  - {id: b, from: https://b.example.com, to: http://x, enabled: false, mcp: {}}
  - {id: all, from: https://all.example.com, mcp: {aggregate: {routes: all}}}
  - {id: off, from: https://off.example.com, enabled: false, mcp: {aggregate: {routes: all}}}
`);
  const of = (id: string) => table.byId(id);
  const all = of("all");
  if (!all) throw new Error("no route");
  expect(membersOf(config, all).map(({ route }) => route.id)).toEqual(["a"]);
  const member = (aggregate: string, id: string) => isMember(config, of(aggregate), { id });
  expect([member("all", "a"), member("all", "b"), member("all", "all")]).toEqual([true, false, false]);
  expect([member("off", "a"), member("a", "a"), member("nowhere", "a")]).toEqual([false, false, false]);
  expect([...memberHosts(config)]).toEqual(["a.example.com"]);
  expect([
    ...memberHosts({ ...config, aggregation: { ...config.aggregation, through: "https://e" } }),
  ]).toEqual([]);
});

it("a route of the database whose prefix would be ambiguous is left out; those of the file stay", () => {
  const loaded = loadConfig(
    configFile(file("", "all").replace("routes: all}", 'routes: all, prefix: "{route}"}')),
    {},
  );
  if (!loaded.ok) throw new Error("invalid");
  const entry = { from: "https://notes2.example.com", to: "http://x", mcp: {} };
  const built = buildStoredRoutes(loaded.config, [{ id: "notes2", entry }]);
  expect(built.problems.get("notes2")).toEqual([
    expect.objectContaining({ message: expect.stringContaining("names would be ambiguous") }),
  ]);
  expect(built.config.routes.map(({ id }) => id)).toEqual(["notes", "all"]);
});
