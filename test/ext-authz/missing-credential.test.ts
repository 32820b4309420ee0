import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { secretPaths } from "../../src/admin/route-settings.ts";
import { createRouteTable, type RouteTable } from "../../src/config/route-table.ts";
import { buildStoredRoutes } from "../../src/config/stored-routes.ts";
import { createCurrentPolicies } from "../../src/policy/route-policy.ts";
import { upstreamToken } from "../store/samples.ts";
import { issuer, startChecks } from "./start-checks.ts";

const url = "https://as.test/token";
const client = { client_id: "c", client_secret: "s" };
const endpoint = { auth_url: "https://as.test/authorize", token_url: url };
/** A valid `mcp` for every kind of credential, by the path of its settings. */
const kinds: Readonly<Record<string, object>> = {
  "mcp.server.upstream_auth.api_key": { header: "x-key", value: "s" },
  "mcp.server.upstream_auth.headers": { "x-key": "s" },
  "mcp.server.upstream_auth.token_exchange": { token_url: url, ...client },
  "mcp.server.upstream_auth.client_credentials": { token_url: url, ...client },
  "mcp.server.upstream_auth.id_jag": { idp_client_id: "i", idp_client_secret: "s", ...client },
  "mcp.server.upstream_oauth2": { endpoint, ...client },
  "mcp.upstream_oauth2": { endpoint, ...client },
  "mcp.server.request_headers.set": { "x-key": "s" },
};
const nested = (path: string, value: unknown) =>
  path
    .split(".")
    .toReversed()
    .reduce<unknown>((below, key) => ({ [key]: below }), value) as Record<string, unknown>;

/** An entry with a secret of its own kind that is empty, or with all headers removed. */
function entryWithout(path: string) {
  const [kind, settings] = Object.entries(kinds).find(([one]) => path.startsWith(one)) ?? [];
  if (kind === undefined) throw new Error(`this test has no settings with ${path}`);
  const name = path.slice(kind.length + 1).replace("*", "x-key");
  const { client_secret: _secret, ...rest } = settings as Record<string, unknown>;
  const given = name === "private_key" ? rest : settings;
  const entry = nested(kind, name === "" ? {} : { ...given, [name]: "" });
  return { from: "https://mcp.test", to: "http://u.internal", ...entry };
}

describe("a stored route whose credential was cleared", () => {
  let checks: Awaited<ReturnType<typeof startChecks>>;
  let table: RouteTable;
  beforeAll(async () => {
    const routes = () => table ?? checks.routes();
    checks = await startChecks(
      `issuer: ${issuer}
sign_in: {providers: [{id: idp, issuer: https://id.test, client_id: i}]}
policy: {allow: {and: [{accept: true}]}}
routes: []
`,
      { routes, policies: createCurrentPolicies(routes) },
    );
  });
  afterAll(() => checks?.close());

  const ask = async (entry: Record<string, unknown>) => {
    const built = buildStoredRoutes(checks.routes().config, [{ id: "r", entry }]);
    expect([...built.problems]).toEqual([]);
    table = createRouteTable(built.config);
    const answer = await checks.ask({ headers: { authorization: `Bearer ${await checks.token()}` } });
    return { built, answer };
  };
  const paths = [...secretPaths().map((path) => path.join(".")), "mcp.server.upstream_auth.headers"];

  it.each(paths)("is 503 without %s, and says which", async (path) => {
    const { built, answer } = await ask(entryWithout(path));
    expect([answer.status, JSON.parse(answer.body).error]).toEqual([503, "credential_missing"]);
    expect(answer.headers["retry-after"]).toBe("60");
    expect(answer.set).toEqual({});
    const named = path.replace("*", "x-key");
    expect(built.withoutCredential.get("r")).toMatchObject([
      { path: named, fix: expect.stringContaining("PATCH") },
    ]);
    expect(checks.log.some((line) => line.includes('"reason":"credential_missing"'))).toBe(true);
  });

  it("requests nothing at its authorization server", async () => {
    const { built } = await ask(entryWithout("mcp.server.upstream_oauth2.client_secret"));
    const [route] = built.config.routes;
    if (!route) throw new Error("no route");
    const { upstreamOAuth } = checks;
    const begun = await upstreamOAuth.begin({ userId: "idp/alice", route, returnTo: "https://mcp.test/" });
    expect(begun).toMatchObject({ ok: false, code: "credential_missing" });
    expect(await upstreamOAuth.grant(route, { userId: "idp/alice" })).toMatchObject({
      ...{ kind: "unavailable", reason: "credential_missing" },
    });
  });

  it("does not revoke a token at its authorization server without the client's secret", async () => {
    const revoked = async (entry: Record<string, unknown>, clientId = "c") => {
      const [route] = (await ask(entry)).built.config.routes;
      if (!route) throw new Error("no route");
      const { revocationEndpoint: _none, ...sample } = upstreamToken({ routeId: "r", clientId });
      const token = { ...sample, version: 1, connectedAt: new Date(), updatedAt: new Date() };
      return checks.upstreamOAuth.revoke(token, route);
    };
    const rejected = { revoked: false, reason: "credential_missing" };
    // A token without a revocation endpoint: what fails for another reason would have been sent.
    const sent = { revoked: false, reason: "it has no revocation endpoint" };
    const clients = paths.filter((path) => /\.(client_secret|private_key)$/.test(path));
    expect(clients).toHaveLength(10);
    for (const path of clients) expect(await revoked(entryWithout(path)), path).toMatchObject(rejected);
    const [anyClient = ""] = clients;
    expect(await revoked(entryWithout(anyClient), "earlier")).toMatchObject(sent);
    const header = {
      ...{ from: "https://mcp.test", to: "http://u.internal" },
      mcp: {
        server: { upstream_oauth2: { endpoint, ...client }, request_headers: { set: { client_secret: "" } } },
      },
    };
    expect(await revoked(header)).toMatchObject(sent);
  });

  it("is served again when it is set", async () => {
    const entry = {
      from: "https://mcp.test",
      to: "http://u.internal",
      ...nested("mcp.server.upstream_auth.api_key", { header: "x-key", value: "k" }),
    };
    expect((await ask(entry)).answer.set["x-key"]).toBe("k");
  });
});
