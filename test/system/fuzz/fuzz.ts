import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import fc from "fast-check";
import { parse } from "yaml";
import { envoyService } from "../../ext-authz/envoy-service.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { corpus } from "./corpus.ts";
import { mutated, mutatedMessage } from "./mutated.ts";
import { sendBytes } from "./send-bytes.ts";

const checkMethod = methodOf(
  envoyService("envoy/service/auth/v3/external_auth.proto", "envoy.service.auth.v3.Authorization").Check,
);
const processMethod = methodOf(
  envoyService(
    "envoy/service/ext_proc/v3/external_processor.proto",
    "envoy.service.ext_proc.v3.ExternalProcessor",
  ).Process,
);

/** Number of inputs for each kind of message. */
export interface FuzzResult {
  readonly inputs: Readonly<Record<string, number>>;
  /** Number of reactions, by kind of message. */
  readonly reactions: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** Timeout of one response, ms. */
const deadline = 10_000;
/**
 * Documented 5xx responses (docs/threat-model.md): 503 if the gateway or a dependency is unavailable; 501 from Envoy for an unknown
 * Transfer-Encoding.
 */
const documented = new Set([501, 503]);

/**
 * Sends mutated messages to a complete running stack: checks and upstream responses over gRPC, HTTP requests to the sidecar's HTTP
 * listener, and through Envoy. Requires for each: a response or a closed connection in time, no undocumented 5xx, no allow, no
 * request at an upstream, no error in the log, and a working sidecar afterwards.
 * @throws Error with the seed and the shrunk input on failure.
 */
export async function fuzz(inputs: number, seed: number): Promise<FuzzResult> {
  // The fuzzer takes Envoy's place.
  const stack = await startE2e({
    config: (config) => {
      const { envoy_secret: _secret, ...listen } = Object(config.listen);
      return { ...config, listen: { ...listen, grpc_authentication: "none" } };
    },
  });
  const reactions: Record<string, Record<string, number>> = {};
  const counted: Record<string, number> = {};
  const saw = (kind: string, reaction: string | number) => {
    reactions[kind] ??= {};
    reactions[kind][reaction] = (reactions[kind][reaction] ?? 0) + 1;
  };
  try {
    const config: { listen: { grpc: string; http: string } } = parse(
      await readFile(stack.configFile, "utf8"),
    );
    const redirectUri = "http://127.0.0.1:33418/callback";
    const messages = await corpus(await registered(stack, redirectUri), redirectUri);
    const token = await stack.externalToken("alice", stack.urls.open);
    // The client that received it requests an event stream at the end.
    while (!stack.open.requests.some(({ method }) => method === "GET")) await delay(20);
    const client = new Client(config.listen.grpc, credentials.createInsecure());
    const before = stack.open.requests.length + stack.everything.requests.length;
    const http = { port: Number(config.listen.http.split(":")[1]) };
    const envoy = { port: stack.envoyPort, tls: { host: "open.test", ca: stack.ca.ca } };

    const kinds: [string, number, fc.Arbitrary<Buffer>, (bytes: Buffer) => Promise<void>][] = [
      [
        "check",
        0.4,
        mutatedMessage(messages.checks, checkMethod.requestSerialize),
        async (bytes) => {
          const { code, denied } = await check(client, bytes);
          if (code === status.OK && denied === 0) throw new Error("let through");
          refuse5xx(denied);
          saw("check", code === status.OK ? denied : `gRPC ${status[code]}`);
        },
      ],
      [
        "token",
        0.1,
        mutated([Buffer.from(token)]),
        async (bytes) => {
          const { code, denied } = await check(client, bearing(bytes));
          // The same bytes may be encoded in two ways; anything else is a different token.
          if (code === status.OK && denied === 0 && !sameToken(bytes, token)) throw new Error("let through");
          refuse5xx(denied);
          saw("token", denied);
        },
      ],
      [
        "ext_proc",
        0.1,
        mutatedMessage(messages.processing, processMethod.requestSerialize),
        async (bytes) => saw("ext_proc", await process(client, bytes)),
      ],
      [
        "http",
        0.25,
        mutated(messages.own),
        async (bytes) => {
          const reaction = await sendBytes(http, bytes);
          refuse5xx(reaction.status);
          saw("http", reaction.status);
        },
      ],
      [
        "envoy",
        0.15,
        mutated(messages.calls),
        async (bytes) => {
          const reaction = await sendBytes(envoy, bytes);
          refuse5xx(reaction.status);
          saw("envoy", reaction.status);
        },
      ],
    ];
    for (const [kind, share, bytes, property] of kinds) {
      const numRuns = Math.ceil(inputs * share);
      counted[kind] = numRuns;
      await fc.assert(fc.asyncProperty(bytes, property), { numRuns, seed, endOnFailure: true });
    }
    client.close();

    const reached = stack.open.requests.length + stack.everything.requests.length - before;
    if (reached > 0) throw new Error(`${reached} requests reached an upstream`);
    const errors = (await readFile(stack.sidecar().logFile, "utf8"))
      .split("\n")
      .filter((line) => line !== "" && !/"level":"(debug|info|warn)"/.test(line))
      // Mutated metadata, which only Envoy can send: not found, and 503.
      .filter((line) => !line.includes('"msg":"upstream rejected a call"'));
    if (errors.length > 0) throw new Error(`the sidecar's log has errors: ${errors.slice(0, 5).join("\n")}`);
    // The sidecar still works.
    await (await stack.client("alice", stack.urls.open)).connect();
  } finally {
    await stack.close();
  }
  return { inputs: counted, reactions };
}

function methodOf<M>(method: M | undefined): M {
  if (!method) throw new Error("Envoy's definitions lack a service");
  return method;
}

function refuse5xx(code: number): void {
  if (code >= 500 && !documented.has(code)) throw new Error(`answered ${code}`);
}

/** A `CheckRequest` to the open route with these bytes as its token. */
function bearing(token: Buffer): Buffer {
  const headers = [
    { key: ":authority", raw_value: Buffer.from("open.test") },
    { key: "authorization", raw_value: Buffer.concat([Buffer.from("Bearer "), token]) },
  ];
  const http = { method: "GET", host: "open.test", path: "/", header_map: { headers } };
  return checkMethod.requestSerialize({ attributes: { request: { http } } });
}

/** Whether both decode to the same header, claims and signature. */
function sameToken(bytes: Buffer, token: string): boolean {
  const decoded = (text: string) =>
    text
      .trim()
      .split(".")
      .map((part) => Buffer.from(part, "base64url").toString("hex"))
      .join(".");
  return decoded(bytes.toString("latin1")) === decoded(token);
}

/** Sends bytes as a `CheckRequest`; `denied` is 0 if allowed. */
function check(client: Client, bytes: Buffer): Promise<{ code: number; denied: number }> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest<Buffer, { denied_response?: { status: { code: string | number } } }>(
      checkMethod.path,
      (raw) => raw,
      checkMethod.responseDeserialize,
      bytes,
      { deadline: Date.now() + deadline },
      (error: ServiceError | null, answer) => {
        if (error?.code === status.DEADLINE_EXCEEDED) reject(new Error("a check hung"));
        else if (error?.code === status.UNAVAILABLE) reject(new Error("the sidecar does not respond"));
        else if (error) resolve({ code: error.code, denied: 0 });
        else resolve({ code: status.OK, denied: Number(answer?.denied_response?.status.code ?? 0) });
      },
    );
  });
}

/** Sends bytes as the only message of an ext_proc stream, and reads to its end. */
function process(client: Client, bytes: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const stream = client.makeBidiStreamRequest<Buffer, Buffer>(
      processMethod.path,
      (raw) => raw,
      (raw) => raw,
      { deadline: Date.now() + deadline },
    );
    let answers = 0;
    stream.on("data", () => {
      answers += 1;
    });
    stream.on("error", (error: ServiceError) => {
      if (error.code === status.DEADLINE_EXCEEDED) reject(new Error("an ext_proc stream hung"));
      else if (error.code === status.UNAVAILABLE) reject(new Error("the sidecar does not respond"));
      else resolve(`gRPC ${status[error.code]}`);
    });
    stream.on("end", () => resolve(`${answers} answers`));
    stream.write(bytes);
    stream.end();
  });
}

async function registered(stack: E2e, redirectUri: string): Promise<string> {
  const response = await stack.fetch(`${stack.urls.issuer}/oauth/register`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ redirect_uris: [redirectUri], token_endpoint_auth_method: "none" }),
  });
  const { client_id }: { client_id: string } = await response.json();
  return client_id;
}
