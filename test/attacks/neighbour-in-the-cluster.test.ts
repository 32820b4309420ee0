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
 * Somebody whose pod can reach our ports as Envoy does, knows an external token, and may have seen what passes between Envoy and
 * us for another request.
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
/** What Envoy holds between a request of alice's and its answer. */
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
/** How often an upstream's refusal has been acted upon, by our log. */
const actedUpon = async () => {
  const log = await readFile(join(dirname(stack.configFile), "sidecar.log"), "utf8");
  return log.split("upstream rejected a call").length;
};

test.each<[string, Parameters<typeof neighbour.check>[2]]>([
  ["no secret", {}],
  ["a wrong secret", { metadata: { [secretHeader]: wrong } }],
  ["a wrong secret as context extension", { context: { envoy_secret: wrong } }],
  [
    "a wrong secret in metadata beside the right context extension's name",
    { metadata: { [secretHeader]: wrong }, context: { envoy_secret: "" } },
  ],
  ["no secret in a compressed message", { compressed: true }],
  ["a wrong secret in a compressed message", { compressed: true, metadata: { [secretHeader]: wrong } }],
])(
  "a neighbour with a stolen external token gets no upstream token from the gRPC port: %s",
  async (_how, options) => {
    const before = await unauthenticated("grpc");
    const answer = await neighbour.check("everything.test", bearer(), options);
    expect(answer).toMatchObject({ code: 16, set: {}, metadata: {} });
    // The same to a good token, a bad one and none: nothing is learnt.
    expect(await neighbour.check("everything.test", {}, options)).toEqual(answer);
    expect(await neighbour.check("nowhere.test", { authorization: "Bearer x" }, options)).toEqual(answer);
    expect(await unauthenticated("grpc")).toBeGreaterThanOrEqual(before + 3);
  },
);

test("Envoy is answered: by the secret in metadata, or as a context extension where a gateway can do no more", async () => {
  const context = { envoy_secret: listen.envoy_secret };
  for (const options of [
    { metadata: asEnvoy() },
    // No Envoy compresses; a message of a peer that has shown nothing yet is not inflated.
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
    `made up, version ${version}`,
    async () => ({ route: s("everything"), user: s("company/alice"), version: { numberValue: version } }),
  ]),
  ["for somebody who has never connected", async () => ({ route: s("everything"), user: s("company/bob") })],
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
    "of another route's request, with the proof of this one's",
    async () => {
      const open = await stack.externalToken("alice", stack.urls.open);
      const headers = { authorization: `Bearer ${open}` };
      const { metadata } = await neighbour.check("open.test", headers, { metadata: asEnvoy() });
      return { ...(await captured()), proof: metadata.proof ?? s("none") };
    },
  ],
  ["with a proof of nothing", async () => ({ ...(await captured()), proof: s("a.1.b.c") })],
  ["without its proof", async () => ({ ...(await captured()), proof: {} })],
];
test.each(forgeries)("a forged ext_proc message changes no state: metadata %s", async (_what, make) => {
  const fields = await make();
  const before = await actedUpon();
  for (const metadata of [{}, asEnvoy()]) {
    expect(await neighbour.process(fields, refused, metadata)).toBe("envoy_mcp_auth_unproven_metadata");
    // An unfiltered list must not pass either, whoever says that it comes from a check of ours.
    const filtered = { ...fields, tool_filter: s("true") };
    expect(await neighbour.process(filtered, { ":status": "200" }, metadata)).toBe(
      "envoy_mcp_auth_unproven_metadata",
    );
  }
  expect(await neighbour.process(fields, refused, { [secretHeader]: wrong })).toBe("gRPC 16");
  await aliceIsConnected();
  expect(await actedUpon()).toBe(before);
});

test("a captured message does nothing when it is said again, and no harm to a newer token", async () => {
  const fields = await captured();
  const first = await neighbour.process(fields, refused, asEnvoy());
  // The positive control: exactly what a check left, once, is acted upon.
  expect(first).toMatch(/^envoy_mcp_auth_(retry|consent)$/);
  for (const metadata of [{}, asEnvoy()])
    expect(await neighbour.process(fields, refused, metadata)).toBe("envoy_mcp_auth_unproven_metadata");
  await aliceIsConnected();
});

test("an answer without metadata of ours passes untouched", async () => {
  expect(await neighbour.process(undefined, refused)).toBe("untouched");
});

/** One request to our own HTTP port, around Envoy. */
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
  ["with a wrong one", { [secretHeader]: wrong }],
])("forged forwarded headers reach nothing of the HTTP port %s", async (_how, shown) => {
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
  // Load balancers ask whether we serve.
  expect((await direct("/readyz")).status).toBe(200);
  expect((await direct("/.well-known/oauth-authorization-server", asEnvoy())).status).toBe(200);
});

test("a client's own header of that name proves nothing through Envoy, and reaches no upstream", async () => {
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

test("the secret is in no log", async () => {
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
