import { readFile } from "node:fs/promises";
import { request } from "node:http";
import { dirname, join } from "node:path";
import { json } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type E2e, startE2e } from "../support/e2e.ts";
import { grpcPeer, listenOf, type WireMetadata } from "../support/grpc-peer.ts";
import { pingThroughEnvoy } from "../support/ping-through-envoy.ts";
import { throughEnvoy } from "../support/through-envoy.ts";

/*
 * A neighboring pod can reach the sidecar's ports like Envoy, knows an external token, and may have captured the messages between
 * Envoy and the sidecar for another request.
 */
let stack: E2e;
let listen: Awaited<ReturnType<typeof listenOf>>;
let neighbour: ReturnType<typeof grpcPeer>;
let token: string;
beforeAll(async () => {
  stack = await startE2e();
  listen = await listenOf(stack);
  neighbour = grpcPeer(listen.grpc);
  token = await stack.externalToken("alice");
});
afterAll(async () => {
  neighbour.close();
  await stack.close();
});

const secretHeader = "x-mcp-auth-secret";
const wrong = "w".repeat(43);
const bearer = () => ({ authorization: `Bearer ${token}` });
const asEnvoy = () => ({ [secretHeader]: listen.envoy_secret });
/** The metadata that Envoy holds between a request of alice and its response. */
const captured = async (headers: Record<string, string> = {}) => {
  const { metadata, code } = await neighbour.check(
    "everything.test",
    { ...bearer(), ...headers },
    { metadata: asEnvoy() },
  );
  expect([code, metadata.user?.stringValue]).toEqual([0, "company/alice"]);
  return metadata;
};
const refused = { ":status": "401", "www-authenticate": 'Bearer error="invalid_token"' };
const aliceIsConnected = async () =>
  expect((await pingThroughEnvoy(stack, stack.urls.everything, token)).status).not.toBe(401);
const unauthenticated = async (listener: string) => {
  const metrics = await (await fetch(`${stack.adminUrl}/metrics`)).text();
  const line = `envoy_mcp_auth_unauthenticated_calls_total{listener="${listener}"} `;
  return Number(metrics.split(line)[1]?.split("\n")[0]);
};
/** How often an upstream rejection was processed, according to the log. */
const actedUpon = async () => {
  const log = await readFile(join(dirname(stack.configFile), "sidecar.log"), "utf8");
  return log.split("upstream rejected a call").length;
};

test.each<[string, Parameters<typeof neighbour.check>[2]]>([
  ["no secret", {}],
  ["a wrong secret", { metadata: { [secretHeader]: wrong } }],
  ["a wrong secret as context extension", { context: { envoy_secret: wrong } }],
  [
    "a wrong secret in metadata together with the context extension",
    { metadata: { [secretHeader]: wrong }, context: { envoy_secret: "" } },
  ],
  ["no secret in a compressed message", { compressed: true }],
  ["a wrong secret in a compressed message", { compressed: true, metadata: { [secretHeader]: wrong } }],
])(
  "a neighbor with a stolen external token does not get an upstream token from the gRPC port: %s",
  async (_how, options) => {
    const before = await unauthenticated("grpc");
    const answer = await neighbour.check("everything.test", bearer(), options);
    expect(answer).toMatchObject({ code: 16, set: {}, metadata: {} });
    // The same response to a valid token, an invalid one and none: it reveals nothing.
    expect(await neighbour.check("everything.test", {}, options)).toEqual(answer);
    expect(await neighbour.check("nowhere.test", { authorization: "Bearer x" }, options)).toEqual(answer);
    expect(await unauthenticated("grpc")).toBeGreaterThanOrEqual(before + 3);
  },
);

test("Envoy is answered: with the secret in metadata, or as a context extension if a gateway supports nothing else", async () => {
  const context = { envoy_secret: listen.envoy_secret };
  for (const options of [
    { metadata: asEnvoy() },
    // Envoy does not compress; a message of an unauthenticated peer is not inflated.
    { metadata: asEnvoy(), compressed: true },
    { context },
  ]) {
    const answer = await neighbour.check("everything.test", bearer(), options);
    expect(answer.set.authorization).toMatch(/^Bearer /);
    expect(JSON.stringify(answer)).not.toContain(listen.envoy_secret);
  }
});

const forgeries: [string, () => Promise<WireMetadata>][] = [
  ["made up", async () => ({ route: s("everything"), user: s("company/alice") })],
  ...[1, 2, 3].map((version): [string, () => Promise<WireMetadata>] => [
    `forged, version ${version}`,
    async () => ({ route: s("everything"), user: s("company/alice"), version: { numberValue: version } }),
  ]),
  ["for a person who has never connected", async () => ({ route: s("everything"), user: s("company/bob") })],
  ["of another request, with another user", async () => ({ ...(await captured()), user: s("company/bob") })],
  [
    "of another request, with another owner",
    async () => ({ ...(await captured()), owner: s("company/bob") }),
  ],
  ["of another request, with another route", async () => ({ ...(await captured()), route: s("open") })],
  [
    "of another request, with another version",
    async () => ({ ...(await captured()), version: { numberValue: 2 } }),
  ],
  [
    "of another route's request, with this request's proof",
    async () => {
      const open = await stack.externalToken("alice", stack.urls.open);
      const headers = { authorization: `Bearer ${open}` };
      const { metadata } = await neighbour.check("open.test", headers, { metadata: asEnvoy() });
      return { ...(await captured()), proof: metadata.proof ?? s("none") };
    },
  ],
  ["with an invalid proof", async () => ({ ...(await captured()), proof: s("a.1.b.c") })],
  ["without its proof", async () => ({ ...(await captured()), proof: {} })],
];
test.each(forgeries)("a forged ext_proc message changes no state: metadata %s", async (_what, make) => {
  const fields = await make();
  const before = await actedUpon();
  for (const metadata of [{}, asEnvoy()]) {
    expect(await neighbour.process(fields, refused, metadata)).toBe("envoy_mcp_auth_unproven_metadata");
    // An unfiltered list must not pass, either, whoever claims that it comes from a check.
    const filtered = { ...fields, tool_filter: s("true") };
    expect(await neighbour.process(filtered, { ":status": "200" }, metadata)).toBe(
      "envoy_mcp_auth_unproven_metadata",
    );
  }
  expect(await neighbour.process(fields, refused, { [secretHeader]: wrong })).toBe("gRPC 16");
  await aliceIsConnected();
  expect(await actedUpon()).toBe(before);
});

test("a replayed message has no effect, and does not affect a newer token", async () => {
  const fields = await captured();
  const first = await neighbour.process(fields, refused, asEnvoy());
  // The positive control: the original metadata of a check is accepted once.
  expect(first).toMatch(/^envoy_mcp_auth_(retry|consent)$/);
  for (const metadata of [{}, asEnvoy()])
    expect(await neighbour.process(fields, refused, metadata)).toBe("envoy_mcp_auth_unproven_metadata");
  await aliceIsConnected();
});

test("a response without our metadata passes unchanged", async () => {
  expect(await neighbour.process(undefined, refused)).toBe("untouched");
});

/** One request to the sidecar's HTTP port, bypassing Envoy. */
async function direct(path: string, headers: Record<string, string> = {}, method = "GET", body?: string) {
  const [host, port] = listen.http.split(":");
  return new Promise<{ status: number | undefined; headers: Record<string, unknown>; body: unknown }>(
    (resolve, reject) => {
      const outgoing = request({
        host,
        port,
        path,
        method,
        agent: false,
        headers: { host: "auth.test", ...headers },
      });
      outgoing.once("error", reject).once("response", async (response) =>
        resolve({
          status: response.statusCode,
          headers: response.headers,
          body: await json(response).catch(() => undefined),
        }),
      );
      outgoing.end(body);
    },
  );
}

test.each<[string, Record<string, string>]>([
  ["without the secret", {}],
  ["with a wrong secret", { [secretHeader]: wrong }],
])("forged forwarded headers are rejected at the HTTP port %s", async (_how, shown) => {
  const forged = {
    "x-forwarded-for": "10.1.2.3",
    "x-forwarded-proto": "https",
    "x-request-id": "forged-request",
  };
  for (const path of [
    "/oauth/authorize",
    "/.well-known/oauth-authorization-server",
    "/.pomerium/",
    "/nowhere",
  ]) {
    const answer = await direct(path, { ...forged, ...shown });
    expect(answer).toMatchObject({ status: 403, body: { error: "forbidden" } });
    expect(JSON.stringify(answer)).not.toContain("forged-request");
  }
  expect(await unauthenticated("http")).toBeGreaterThan(0);
  // Load balancers check readiness.
  expect((await direct("/readyz")).status).toBe(200);
  expect((await direct("/.well-known/oauth-authorization-server", asEnvoy())).status).toBe(200);
});

test("a client's header of that name is removed by Envoy: it neither authenticates nor reaches an upstream", async () => {
  const headers = { [secretHeader]: wrong };
  const metadata = "https://auth.test/.well-known/oauth-authorization-server";
  expect((await throughEnvoy(stack, { url: metadata, headers })).status).toBe(200);
  const open = await stack.externalToken("alice", stack.urls.open);
  const answer = await throughEnvoy(stack, {
    url: "https://open.test/",
    method: "PATCH",
    headers: { ...headers, authorization: `Bearer ${open}` },
  });
  expect(answer.status).not.toBe(401);
  const seen = stack.open.requests.filter(({ method }) => method === "PATCH").at(-1);
  expect(seen?.headers).toBeDefined();
  expect(Object.keys(seen?.headers ?? {})).not.toContain(secretHeader);
  for (const one of [...stack.open.requests, ...stack.everything.requests])
    expect(JSON.stringify(one)).not.toContain(listen.envoy_secret);
});

test("no log contains the secret", async () => {
  const folder = dirname(stack.configFile);
  for (const file of ["sidecar.log", "envoy.log"])
    expect(await readFile(join(folder, file), "utf8")).not.toContain(listen.envoy_secret);
  const lines = (await readFile(join(folder, "sidecar.log"), "utf8")).split("\n");
  const turnedAway = lines.filter((line) => line.includes("has not proven that it is Envoy"));
  expect(turnedAway.length).toBeGreaterThan(0);
});

function s(stringValue: string) {
  return { stringValue };
}
