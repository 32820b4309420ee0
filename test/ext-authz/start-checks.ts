import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { createLocalJWKSet, generateKeyPair, type JWTPayload, jwtVerify, SignJWT } from "jose";
import { membersOf } from "../../src/config/aggregates.ts";
import { createCheckService } from "../../src/ext-authz/check-service.ts";
import type { CheckDeps } from "../../src/ext-authz/check-types.ts";
import { createGrpcServer } from "../../src/server/grpc/grpc-server.ts";
import type { SignInSession } from "../../src/store/sign-in-sessions.ts";
import { anyPeer } from "../support/any-peer.ts";
import { startStack } from "../support/stack.ts";
import { envoyService } from "./envoy-service.ts";

export const issuer = "https://auth.test";

/** A check's response as Envoy decodes it. */
export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: string;
  set: Record<string, string>;
  removed: string[];
  responseHeaders: Record<string, string>;
  metadata: Record<string, string | number>;
}
interface Option {
  header: { key: string; value: string };
}
interface Decoded {
  denied_response?: { status: { code: string | number }; headers: Option[]; body: string };
  ok_response?: { headers: Option[]; headers_to_remove: string[]; response_headers_to_add: Option[] };
  dynamic_metadata?: { fields: Record<string, { stringValue?: string; numberValue?: number }> };
}
export interface Asked {
  method?: string;
  url?: string;
  headers?: Record<string, string>;
  body?: string;
  /** Sends exactly this instead of a request built from the above. */
  attributes?: object;
  rawHeaders?: [string, string][];
  context?: Record<string, string>;
  /** Of the gRPC call. */
  metadata?: Record<string, string>;
}

/** A check of a POST to `mcp.test`, with some parts of its HTTP request replaced. */
export function askedPost(parts: Record<string, unknown>, headers: Record<string, string>): Asked {
  const http = { method: "POST", host: "mcp.test", path: "/", headers, ...parts };
  return { attributes: { request: { http } } };
}

/** The real check service over real gRPC, called with Envoy's own definitions. */
export async function startChecks(
  yaml: string,
  {
    fetch,
    ...overrides
  }: Partial<Omit<CheckDeps, "peers" | "metadataProofs">> & { fetch?: typeof globalThis.fetch } = {},
) {
  const stack = await startStack(yaml, fetch && { trustedFetch: fetch });
  const { store, keys, clock, beforeClose } = stack;
  const signedIn = (session: Partial<SignInSession> = {}) =>
    store.signInSessions.put({
      userId: "idp/alice",
      providerId: "idp",
      subject: "alice",
      email: "alice@example.com",
      name: "Alice",
      groups: ["staff"],
      claims: {},
      checkedAt: new Date(),
      ...session,
    });
  await signedIn();
  const service = createCheckService({ ...stack, peers: anyPeer, ...overrides });
  const server = await createGrpcServer({ listen: "127.0.0.1:0", services: [service], peers: anyPeer });
  beforeClose(() => server.drain(1000));
  const client = new Client(server.address, credentials.createInsecure());
  beforeClose(() => client.close());
  const method = envoyService(
    "envoy/service/auth/v3/external_auth.proto",
    "envoy.service.auth.v3.Authorization",
  ).Check;
  if (!method) throw new Error("no Check in Envoy's definitions");

  const call = (request: object, metadata: Record<string, string> = {}) =>
    new Promise<Decoded>((resolve, reject) => {
      const sent = new Metadata();
      for (const [key, value] of Object.entries(metadata)) sent.set(key, value);
      client.makeUnaryRequest<object, Decoded>(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        sent,
        (error, answer) => (error ? reject(error) : resolve(answer as Decoded)),
      );
    });

  /** As the consent page of an aggregated route does, for all its members. */
  async function allowMembers(grant: { grantId: string; userId: string }, resource: string) {
    const { config, ...table } = stack.routes();
    const route = table.byResource(resource);
    const members = route ? membersOf(config, route) : [];
    const allowed = members.map(({ route: { id, upstream } }) => ({ routeId: id, upstream }));
    if (allowed.length > 0) await store.grantedMembers.allow(grant, allowed, {});
  }

  return {
    ...stack,
    address: server.address,
    server,
    /** Verifies an identity assertion by the published keys, as an upstream does; undefined: it is not valid for `resource`. */
    async verifyAssertion(assertion: string, resource: string): Promise<JWTPayload | undefined> {
      const published = createLocalJWKSet(keys.jwks("assertion"));
      const expected = {
        algorithms: ["ES256"],
        typ: "JWT",
        issuer: new URL(resource).host,
        audience: resource,
        requiredClaims: ["sub", "iat", "exp"],
        currentDate: new Date(Date.now() + clock.offset),
      };
      return jwtVerify(assertion, published, expected).then(
        ({ payload }) => payload,
        () => undefined,
      );
    },
    /** Sends a check like Envoy does for a request to `url`. */
    async ask({ url = "https://mcp.test/", method: verb = "POST", headers = {}, ...rest }: Asked = {}) {
      const { host, pathname, search } = new URL(url);
      const http = {
        method: verb,
        host,
        path: pathname + search,
        raw_body: rest.body === undefined ? undefined : Buffer.from(rest.body),
        ...(rest.rawHeaders
          ? {
              header_map: {
                headers: rest.rawHeaders.map(([key, value]) => ({
                  key,
                  raw_value: Buffer.from(value, "latin1"),
                })),
              },
            }
          : { headers: { ":authority": host, ":path": pathname + search, ":method": verb, ...headers } }),
      };
      return readAnswer(
        await call(
          { attributes: rest.attributes ?? { request: { http }, context_extensions: rest.context ?? {} } },
          rest.metadata,
        ),
      );
    },
    /** Writes a sign-in record: alice's initial one, with these changes. */
    signedIn,
    /** An external token as issued by the authorization server, for a grant in the store (unless `grant_id` is set). */
    async token(claims: Record<string, unknown> = {}, options: TokenOptions = {}) {
      const grantId = options.grantId ?? `grant-${Math.random().toString(36).slice(2)}`;
      if (!options.noGrant) {
        await store.authorizationServerRecords.upsert({
          model: "Grant",
          id: grantId,
          payload: { accountId: claims.sub ?? "idp/alice", clientId: "client-1" },
          expiresAt: new Date(Date.now() + 3_600_000),
        });
        await allowMembers({ grantId, userId: String(claims.sub ?? "idp/alice") }, String(claims.aud));
      }
      const seconds = Math.floor((Date.now() + clock.offset) / 1000);
      const signer = keys.signer("external_token");
      return new SignJWT({
        iss: issuer,
        aud: "https://mcp.test",
        sub: "idp/alice",
        client_id: "client-1",
        grant_id: grantId,
        scope: "mcp offline_access",
        jti: "jti-1",
        iat: seconds,
        exp: seconds + 3600,
        ...claims,
      })
        .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: signer.kid, ...options.header })
        .sign(options.key ?? signer.key);
    },
  };
}

export interface TokenOptions {
  grantId?: string;
  noGrant?: boolean;
  header?: Record<string, unknown>;
  key?: CryptoKey;
}

export async function strangersKey(): Promise<CryptoKey> {
  return (await generateKeyPair("ES256")).privateKey;
}

function readAnswer(answer: Decoded): Answer {
  const record = (options: Option[] = []) =>
    Object.fromEntries(options.map(({ header }) => [header.key, header.value]));
  const fields = Object.entries(answer.dynamic_metadata?.fields ?? {});
  return {
    status: Number(answer.denied_response?.status.code ?? 0),
    headers: record(answer.denied_response?.headers),
    body: answer.denied_response?.body ?? "",
    set: record(answer.ok_response?.headers),
    removed: answer.ok_response?.headers_to_remove ?? [],
    responseHeaders: record(answer.ok_response?.response_headers_to_add),
    metadata: Object.fromEntries(
      fields.map(([name, value]) => [name, value.stringValue ?? value.numberValue ?? ""]),
    ),
  };
}
