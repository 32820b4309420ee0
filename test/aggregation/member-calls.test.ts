import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { MemberFailed } from "../../src/aggregation/errors.ts";
import { SafeFetchError } from "../../src/egress/errors.ts";
import { startAggregateGateway, toA, toB } from "../support/aggregate-gateway.ts";

let gateway: Awaited<ReturnType<typeof startAggregateGateway>>;
beforeAll(async () => {
  gateway = await startAggregateGateway();
});
afterAll(() => gateway?.close());
beforeEach(() => {
  gateway.seen.length = 0;
  gateway.seenByPort.length = 0;
});

test("a request to an aggregated route reaches the HTTP port with its caller instead of a token, and its members through Envoy", async () => {
  const token = await gateway.aggregateToken({ scope: "mcp" });
  const answer = await gateway.call(token, toA);
  expect(answer).toMatchObject({ status: 200, body: { status: 200 } });
  expect(JSON.parse(answer.body.body)).toMatchObject({ server: "a" });
  const [port] = gateway.seenByPort;
  expect(port?.headers.authorization).toBeUndefined();
  expect(port?.headers.host).toBe("all.test");
  expect(port).toMatchObject({
    url: "/",
    sourceIp: "127.0.0.1",
    caller: { userId: "idp/alice", email: "alice@example.com", clientId: "client-1", scopes: ["mcp"] },
  });
  const [member] = gateway.seen;
  expect(member).toMatchObject({ server: "a", url: "/" });
  expect(member?.headers.authorization).toBeUndefined();
  expect(member?.headers["x-forwarded-proto"]).toBe("https");
  expect(member?.headers["x-mcp-auth-aggregate-call"]).toBeUndefined();
  expect(JSON.stringify(member)).not.toContain(token.slice(-40));
  expect(await gateway.call(token, toB)).toMatchObject({ body: { status: 200 } });
});

test("one call has one request id and one trace, in both checks and at the member", async () => {
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const answer = await gateway.call(await gateway.aggregateToken(), toA, { traceparent });
  const requestId = answer.header("x-request-id");
  expect(gateway.seen[0]?.headers["x-request-id"]).toBe(requestId);
  expect(gateway.seen[0]?.headers.traceparent).toContain("0af7651916cd43dd8448eb211c80319c");
  const checks = gateway.log.map((line) => JSON.parse(line)).filter((line) => line.requestId === requestId);
  expect(checks).toContainEqual(expect.objectContaining({ decision: "allow", route: "all" }));
  expect(checks).toContainEqual(expect.objectContaining({ decision: "allow", route: "a", via: "all" }));
});

test("the response of a member is read up to 16 MiB, and the client hears that it was too long", async () => {
  const { member, url } = toA;
  const answer = await gateway.call(await gateway.aggregateToken(), { member, url: `${url}long` });
  expect(answer).toMatchObject({
    status: 502,
    body: { error: expect.stringContaining("is longer than 16777216 bytes") },
  });
  const route = gateway.routes().byId("a");
  if (!route) throw new Error("no route");
  const cause = new TypeError("fetch failed", { cause: new SafeFetchError("too_large", "too long") });
  const naming = { member: { route, prefix: "a__" }, transparent: false };
  expect(new MemberFailed(naming, cause, {}).message).toBe(`${route.name} sent a response that is too long`);
});

test("a request that can be repeated, as the gateway says, is sent once more, no more often", async () => {
  const { member, url } = toA;
  const answer = await gateway.call(await gateway.aggregateToken(), { member, url: `${url}again` });
  expect(answer).toMatchObject({ body: { status: 503 } });
  expect(gateway.seen.map((one) => one.url)).toEqual(["/again", "/again"]);
});

test.each(["forged", "another"])(
  "a member cannot have a request repeated: only the gateway signs that it can be, for one member (%s)",
  async (path) => {
    const { member, url } = toA;
    const answer = await gateway.call(await gateway.aggregateToken(), { member, url: `${url}${path}` });
    expect(answer).toMatchObject({ body: { status: 503 } });
    expect(gateway.seen.map((one) => one.url)).toEqual([`/${path}`]);
  },
);

test("a member cannot have a request repeated that it has answered", async () => {
  const { member, url } = toA;
  const answer = await gateway.call(await gateway.aggregateToken(), { member, url: `${url}done` });
  expect(answer).toMatchObject({ body: { status: 200 } });
  expect(gateway.seen.map((one) => one.url)).toEqual(["/done"]);
});

test("with aggregation.through, members are called over TLS, and the certificate must be valid for the member's host", async () => {
  const token = await gateway.aggregateToken();
  const { envoyPort, ca } = gateway.address;
  const folder = await mkdtemp(join(tmpdir(), "another-ca-"));
  const stranger = await certificateAuthority(folder);
  const through = (file: string) =>
    gateway.reload((current) => {
      const config = JSON.parse(current);
      const more = config.routes.some(({ id }: { id: string }) => id === "c")
        ? []
        : [
            {
              id: "c",
              from: "https://c.test",
              to: config.routes[1].to,
              mcp: { server: { upstream_auth: "none" } },
            },
          ];
      return JSON.stringify({
        ...config,
        aggregation: { through: `https://127.0.0.1:${envoyPort}`, ca: file },
        routes: [
          { ...config.routes[0], mcp: { aggregate: { routes: ["a", "b", "c"] } } },
          ...config.routes.slice(1),
          ...more,
        ],
      });
    });
  await through(ca.files.ca);
  expect(await gateway.call(token, toA)).toMatchObject({ body: { status: 200 } });
  expect(await gateway.call(token, toB)).toMatchObject({ body: { status: 200 } });
  expect(gateway.seen.map(({ server }) => server)).toEqual(["a", "b"]);
  // Envoy's certificate does not name this host.
  expect(await gateway.call(token, { member: "c", url: "https://c.test/" })).toMatchObject({
    status: 502,
    body: { error: expect.stringContaining("is not valid for c.test") },
  });
  await through(stranger.files.ca);
  expect(await gateway.call(token, toA)).toMatchObject({
    status: 502,
    body: { error: expect.stringContaining("is not valid for a.test") },
  });
  await through(join(folder, "nowhere.pem"));
  expect(await gateway.call(token, toA)).toMatchObject({
    status: 502,
    body: { error: expect.stringContaining("aggregation.ca") },
  });
  expect(gateway.seen).toHaveLength(2);
  await rm(folder, { recursive: true, force: true });
});
