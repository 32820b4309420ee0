import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { issuer, startChecks } from "./start-checks.ts";

const none = { server: { upstream_auth: "none" } };
const entry = (from: string) => ({ from, to: "http://u.internal", mcp: none });
const yaml = `issuer: ${issuer}
sign_in: {providers: [{id: idp, issuer: https://id.test, client_id: i}]}
policy: {allow: {and: [{accept: true}]}}
routes:
  - {id: above, from: https://mcp.test, to: http://above.internal, mcp: {server: {upstream_auth: none}}}
  - {id: beside, from: https://mcp.test/beside, to: http://beside.internal, mcp: {server: {upstream_auth: none}}}
  - {id: local, from: "http://localhost/local", to: http://local.internal, mcp: {server: {upstream_auth: none}}}
`;

describe("a stored route that cannot be used", () => {
  let checks: Awaited<ReturnType<typeof startChecks>>;
  beforeAll(async () => {
    checks = await startChecks(yaml);
  });
  afterAll(() => checks?.close());
  beforeEach(() => checks.reload(yaml));

  const ask = async (url: string) => {
    const headers = { authorization: `Bearer ${await checks.token()}` };
    const answer = await checks.ask({ url, headers });
    return { status: answer.status, answer, error: answer.body && JSON.parse(answer.body).error };
  };

  const cases = {
    route_unreadable: () =>
      checks.useStored([], { unreadable: [{ id: "lost", place: "mcp.test/lost" }], rejected: [] }),
    route_invalid: () =>
      checks.useStored([
        { id: "lost", place: "mcp.test/lost", entry: { ...entry("https://mcp.test/lost"), newer: 1 } },
      ]),
    route_row_rejected: () =>
      checks.useStored([], {
        unreadable: [],
        rejected: [{ id: "lost", entry: entry("https://mcp.test/lost") }],
      }),
  };
  it.each(Object.keys(cases) as (keyof typeof cases)[])(
    "is 503 %s, and so is what is below it, with its id in log and metric; the route above does not answer",
    async (reason) => {
      cases[reason]();
      for (const path of ["/lost", "/lost/x"]) {
        const { status, error, answer } = await ask(`https://mcp.test${path}`);
        expect([status, error, answer.headers["retry-after"]]).toEqual([503, reason, "60"]);
      }
      expect((await ask("https://mcp.test/losta")).status).toBe(0);
      expect((await ask("https://mcp.test/")).status).toBe(0);
      const lines = checks.log.filter((line) => line.includes(`"reason":"${reason}"`));
      expect(lines.map((line) => JSON.parse(line).route)).toEqual(["lost", "lost"]);
      const { values } = await checks.metrics.checks.get();
      const counted = values.find(({ labels }) => labels.reason === reason);
      expect([counted?.labels.route, counted?.value]).toEqual(["lost", 2]);
    },
  );

  it("is 503 on a host that has no other route, and on a plain HTTP host with its port", async () => {
    checks.useStored([], {
      unreadable: [
        { id: "gone", place: "gone.test/" },
        { id: "plain", place: "localhost/local/lost" },
      ],
      rejected: [],
    });
    for (const url of ["https://gone.test/", "http://localhost/local/lost", "http://localhost:80/local/lost"])
      expect((await ask(url)).error).toBe("route_unreadable");
  });

  it("is 404 if it is disabled, like every disabled route, and the route above does not answer", async () => {
    const off = { ...entry("https://mcp.test/off"), newer: 1, enabled: false };
    checks.useStored([{ id: "off", place: "mcp.test/off", entry: off }]);
    expect((await ask("https://mcp.test/off")).status).toBe(404);
  });

  it("does not take the place of a route in force, whatever its row says", async () => {
    checks.useStored([{ id: "twin", entry: entry("https://mcp.test/beside") }], {
      unreadable: [{ id: "other", place: "mcp.test/" }],
      rejected: [{ id: "forged", entry: entry("https://mcp.test/beside") }],
    });
    expect((await ask("https://mcp.test/")).status).toBe(0);
    // The token is for the route above.
    expect((await ask("https://mcp.test/beside")).status).toBe(401);
  });
});
