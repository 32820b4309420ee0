import { afterAll, beforeAll, expect, test } from "vitest";
import { startAggregateGateway, toA, toB } from "../support/aggregate-gateway.ts";

let gateway: Awaited<ReturnType<typeof startAggregateGateway>>;
beforeAll(async () => {
  gateway = await startAggregateGateway();
});
afterAll(() => gateway?.close());

test("a request to an aggregated route reaches the HTTP port with its caller instead of a token, and its members through Envoy", async () => {
  const token = await gateway.aggregateToken({ scope: "mcp" });
  const answer = await gateway.call(token, toA);
  expect(answer).toMatchObject({ status: 200, body: { status: 200 } });
  expect(JSON.parse(answer.body.body)).toMatchObject({ server: "a" });
  const [port] = gateway.seenByPort.splice(0);
  expect(port?.headers.authorization).toBeUndefined();
  expect(port?.headers.host).toBe("all.test");
  expect(port).toMatchObject({
    url: "/",
    sourceIp: "127.0.0.1",
    caller: { userId: "idp/alice", email: "alice@example.com", clientId: "client-1", scopes: ["mcp"] },
  });
  const [member] = gateway.seen.splice(0);
  expect(member).toMatchObject({ server: "a", url: "/" });
  expect(member?.headers.authorization).toBeUndefined();
  expect(member?.headers["x-forwarded-proto"]).toBe("https");
  expect(member?.headers["x-mcp-auth-aggregate-call"]).toBeUndefined();
  expect(JSON.stringify(member)).not.toContain(token.slice(-40));
  expect(await gateway.call(token, toB)).toMatchObject({ body: { status: 200 } });
});
