import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stackClientId } from "../../dev/demo/stack-config.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { throughEnvoy } from "../support/through-envoy.ts";

/** The alleged host of an attacker's client documents: counts connections and closes them. */
let documents: Server;
let connections = 0;
let stack: E2e;

beforeAll(async () => {
  documents = createServer((socket) => {
    connections += 1;
    socket.destroy();
  }).listen(0, "127.0.0.1");
  await once(documents, "listening");
  stack = await startE2e({
    config: (config) => ({
      ...config,
      upstream_oauth: { allowed_private_hosts: ["127.0.0.0/8"] },
      limits: { client_fetches_per_address: 30, client_fetches_per_host: 12 },
    }),
  });
});
afterAll(async () => {
  await stack?.close();
  documents?.close();
});

const port = () => (documents.address() as AddressInfo).port;
const many = <T>(count: number, one: (index: number) => Promise<T>) =>
  Promise.all(Array.from({ length: count }, (_, index) => one(index)));
const post = (path: string, form: Record<string, string>) =>
  throughEnvoy(stack, {
    url: `https://auth.test${path}`,
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams(form).toString(),
  });
const authorize = (clientId: string) =>
  throughEnvoy(stack, {
    url: `https://auth.test/oauth/authorize?${new URLSearchParams({
      client_id: clientId,
      redirect_uri: "http://127.0.0.1/callback",
      response_type: "code",
      code_challenge: "x".repeat(43),
      code_challenge_method: "S256",
      resource: stack.urls.everything,
    })}`,
  });
const logLines = async () =>
  (await readFile(join(stack.configFile, "../sidecar.log"), "utf8")).split("\n").filter(Boolean);
async function reached(limit: string): Promise<number> {
  const metrics = await (await fetch(`${stack.adminUrl}/metrics`)).text();
  const line = metrics.split("\n").find((one) => one.includes(`limits_reached_total{limit="${limit}"}`));
  return Number(line?.split(" ").at(-1) ?? 0);
}

describe("an unauthenticated client names client documents to fetch", () => {
  test.each([
    ["token", { grant_type: "refresh_token", refresh_token: "x" }],
    ["revoke", { token: "x" }],
    ["introspect", { token: "x" }],
  ])("at /oauth/%s nothing is fetched for a client that was never allowed", async (name, form) => {
    connections = 0;
    const answers = await many(100, (index) =>
      post(`/oauth/${name}`, { ...form, client_id: `https://127.0.0.1:${port()}/${name}/${index}.json` }),
    );
    for (const answer of answers) expect(answer.body).toContain("invalid_client");
    expect(connections).toBe(0);
  });

  test("at /oauth/authorize a failing document is not fetched again for every request", async () => {
    connections = 0;
    for (let count = 0; count < 20; count++)
      expect((await authorize(`https://127.0.0.1:${port()}/one.json`)).status).toBe(400);
    // The HTTP library may retry the broken connection.
    expect(connections).toBeLessThanOrEqual(3);
  });

  test("at /oauth/authorize documents of one host are fetched up to the host's limit", async () => {
    connections = 0;
    const answers = await many(40, (index) => authorize(`https://127.0.0.1:${port()}/many/${index}.json`));
    expect(answers.filter(({ status }) => status === 429).length).toBeGreaterThan(20);
    expect(answers.find(({ status }) => status === 429)?.header("retry-after")).toMatch(/^\d+$/);
    expect(connections).toBeLessThanOrEqual(40 - 20);
    expect(await reached("client_fetches_per_host")).toBeGreaterThan(5);
  });

  test("at /oauth/authorize documents of many hosts are fetched up to the client address's limit", async () => {
    connections = 0;
    const before = await reached("client_fetches_per_address");
    await many(60, (index) => authorize(`https://127.0.1.${index + 1}:${port()}/client.json`));
    expect(await reached("client_fetches_per_address")).toBeGreaterThan(before + 30);
  });
});

describe("an unauthenticated client sends forged logout tokens", () => {
  test("the provider's keys are rarely fetched, and few lines are logged", async () => {
    const { privateKey } = await generateKeyPair("RS256");
    const forged = (kid: string) =>
      new SignJWT({ events: { "http://schemas.openid.net/event/backchannel-logout": {} }, sub: "alice" })
        .setProtectedHeader({ alg: "RS256", kid, typ: "logout+jwt" })
        .setIssuer(stack.openid.issuer)
        .setAudience(stackClientId)
        .setIssuedAt()
        .setExpirationTime("1m")
        .setJti(kid)
        .sign(privateKey);
    const count = 300;
    const before = stack.openid.counts.keySets;
    const answers = await many(count, async (index) =>
      post("/.pomerium/sign_in/back_channel_logout", { logout_token: await forged(`k${index}`) }),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([400]));
    // Once initially, and once per half minute for an unknown key.
    const keySets = stack.openid.counts.keySets - before;
    expect(keySets).toBeGreaterThan(0);
    expect(keySets).toBeLessThanOrEqual(5);
    const lines = (await logLines()).filter((line) => line.includes("logout_token_rejected"));
    expect(lines.length).toBeGreaterThan(0);
    // One budget per minute; the run may span two or three minutes.
    expect(lines.length).toBeLessThanOrEqual(180);
  });
});
