import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { issuer, startChecks } from "./start-checks.ts";

type Checks = Awaited<ReturnType<typeof startChecks>>;

const routes = (list: string) => `issuer: ${issuer}
sign_in: {providers: [{id: idp, issuer: https://id.test, client_id: c}]}
policy: {allow: {and: [{accept: true}]}}
routes:
${list}`;
const swap = (to: string, key: string, more = "") =>
  `  - {id: swap, from: https://mcp.test, to: "${to}"${more}, mcp: {server: {upstream_auth: {api_key: {header: x-api-key, value: ${key}}}}}}\n`;
const other = "  - {id: other, from: https://other.test, to: http://o.internal, mcp: {}}\n";

describe("A route with a changed upstream", () => {
  let checks: Checks;
  let token: string;
  let hashOfA: string;
  const hash = () => checks.routes().byId("swap")?.upstreamHash ?? "";
  const ask = (upstream?: string) =>
    checks.ask({
      headers: { authorization: `Bearer ${token}` },
      context: { route: "swap", ...(upstream === undefined ? {} : { upstream }) },
    });

  beforeAll(async () => {
    checks = await startChecks(routes(swap("http://a.internal", "key-of-a")));
    token = await checks.token();
  });
  afterAll(() => checks?.close());
  beforeEach(async () => {
    // Removed in between: the former upstream is not remembered.
    await checks.reload(routes(other));
    await checks.reload(routes(swap("http://a.internal", "key-of-a")));
    hashOfA = hash();
  });

  it("is allowed for the old and the new upstream, each with its own credential", async () => {
    await checks.reload(routes(swap("http://b.internal", "key-of-b")));
    expect((await ask(hash())).set["x-api-key"]).toBe("key-of-b");
    expect((await ask(hashOfA)).set["x-api-key"]).toBe("key-of-a");
    const { until } = checks.routes().former.get("swap")?.[0] ?? { until: 0 };
    expect(until).toBeLessThanOrEqual(Date.now() + 60_000);
    const route = checks.routes().byId("swap");
    expect(route && checks.routes().withUpstream(route, hashOfA, until)).toBeUndefined();
  });

  it("uses a new credential for the same upstream at once", async () => {
    await checks.reload(routes(swap("http://a.internal", "rotated")));
    expect(hash()).toBe(hashOfA);
    expect((await ask(hashOfA)).set["x-api-key"]).toBe("rotated");
    await checks.reload(routes(swap("http://b.internal", "key-of-b")));
    await checks.reload(routes(swap("http://a.internal", "rotated again")));
    expect((await ask(hashOfA)).set["x-api-key"]).toBe("rotated again");
  });

  it("is denied with Retry-After for an unknown upstream", async () => {
    const answer = await ask("0000000000000000");
    expect(answer.status).toBe(503);
    expect(answer.headers["retry-after"]).toBe("1");
    expect(answer.body).toContain("upstream_mismatch");
  });

  it("is denied for a minute if Envoy does not name the upstream it routes to", async () => {
    expect((await ask()).set["x-api-key"]).toBe("key-of-a");
    await checks.reload(routes(swap("http://b.internal", "key-of-b")));
    expect((await ask()).status).toBe(503);
    const { until } = checks.routes().former.get("swap")?.[0] ?? { until: 0 };
    const route = checks.routes().byId("swap");
    expect(route && checks.routes().withUpstream(route, undefined, until)).toBe(route);
  });

  it("stops serving the old upstream at once when it is disabled or removed, and does not start again", async () => {
    for (const between of [swap("http://b.internal", "key-of-b", ", enabled: false"), other]) {
      await checks.reload(routes(between));
      expect((await ask(hashOfA)).status).toBe(404);
      await checks.reload(routes(swap("http://b.internal", "key-of-b")));
      expect((await ask(hashOfA)).status).toBe(503);
      expect((await ask(hash())).set["x-api-key"]).toBe("key-of-b");
      await checks.reload(routes(other));
      await checks.reload(routes(swap("http://a.internal", "key-of-a")));
    }
  });

  it("changes with the order of `to`, and with the server name of its certificate", async () => {
    const seen = new Set([hash()]);
    for (const [to, more] of [
      ["https://a.internal", ""],
      ["https://a.internal", ", tls_upstream_server_name: a.example"],
      ["https://a.internal", ", preserve_host_header: true"],
      ['https://a.internal", "https://b.internal', ""],
      ['https://b.internal", "https://a.internal', ""],
    ] as const) {
      await checks.reload(
        routes(swap(to, "k", more).replace(/to: (".*?internal")(?=,? ?(?:tls|pres|mcp))/, "to: [$1]")),
      );
      seen.add(hash());
    }
    expect(seen.size).toBe(6);
  });
});
