import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SignJWT } from "jose";
import { type CertificateAuthority, certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { createSigningKeys } from "../../src/external-tokens/signing-keys.ts";
import { loadKeyEncryptionKeys } from "../../src/store/encryption/load-keys.ts";
import { openStore } from "../../src/store/open-store.ts";
import type { Store } from "../../src/store/store.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { startPostgres } from "../../test/support/start-postgres.ts";
import { insertConnections } from "./insert-connections.ts";

export const issuer = "https://auth.test";
export const clientId = "https://client.example.com/oauth/client.json";
const encryptionKey = randomBytes(32).toString("base64url");

/** One person's connection to one route, with the external token that uses it. */
export interface Connection extends Person {
  readonly externalToken: string;
  readonly upstreamToken: string;
}
interface Person {
  readonly userId: string;
  readonly number: number;
  readonly grantId: string;
  /** Its number in the routes file. */
  readonly route: number;
}

/** A real Postgres with people, grants and connections in it, and the routes files that go with them. */
export interface World {
  readonly folder: string;
  readonly store: Store;
  readonly ca: CertificateAuthority;
  /** Environment of every sidecar of this world. */
  readonly env: Readonly<Record<string, string>>;
  /** Makes connections for people nobody has seen yet; the route's is `number % routes`. */
  connections(count: number, options: ConnectionOptions): Promise<Connection[]>;
  /** Another external token for the same person and grant. @param resource default: the connection's route */
  externalToken(person: Connection, resource?: string): Promise<string>;
  /** Writes a routes file; the path of it. */
  routesFile(name: string, options: RoutesFileOptions): Promise<string>;
  close(): Promise<void>;
}

export interface ConnectionOptions {
  readonly routes: number;
  /** Where the upstream token is refreshed. */
  readonly tokenEndpoint: string;
  /** Seconds; default: an hour. */
  readonly expiresIn?: number;
  /** One grant each, so that one can be revoked; default: one for all. */
  readonly ownGrants?: boolean;
}

export interface RoutesFileOptions {
  readonly routes: number;
  readonly upstream: string;
  readonly tokenEndpoint: string;
  readonly listen: { readonly grpc: string; readonly http: string; readonly admin: string };
  readonly envoy?: Readonly<Record<string, unknown>>;
  readonly more?: Readonly<Record<string, unknown>>;
}

/** Public URL of the route with this number. */
export const routeUrl = (route: number) => `https://mcp.test${route === 0 ? "" : `/r${route}`}`;
const upstreamOf = (upstream: string) => `${upstream}/mcp`;

/** @param options.postgres an existing server, which stays when the world ends (default: one of its own) */
export async function startWorld(
  upstream: string,
  options: { readonly postgres?: { readonly url: string } } = {},
): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), "bench-"));
  const own = options.postgres ? undefined : await startPostgres();
  const url = options.postgres?.url ?? own?.url ?? "";
  const logger = createLogger({ level: "silent" });
  const keyEnv = { BENCH_KEY: encryptionKey };
  const keySource = [{ kid: "bench", env: "BENCH_KEY" }];
  const store = await openStore({
    url,
    // Hundreds of writes at once, on a machine that may be busy: not what is measured.
    operationTimeoutMs: 60_000,
    dir: folder,
    keys: await loadKeyEncryptionKeys(keySource, { env: keyEnv }),
    logger,
  });
  const keys = await createSigningKeys({ store, logger });
  const { insert, close: closeInserts } = await insertConnections(
    url,
    await loadKeyEncryptionKeys(keySource, { env: keyEnv }),
  );
  const ca = await certificateAuthority(folder, ["mcp.test", "auth.test"]);
  let people = 0;

  async function makeExternalToken(person: Person, resource = routeUrl(person.route)): Promise<string> {
    const { userId, grantId } = person;
    const { kid, key } = keys.signer("external_token");
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT({
      iss: issuer,
      aud: resource,
      sub: userId,
      client_id: clientId,
      grant_id: grantId,
      scope: "mcp offline_access",
      jti: randomBytes(16).toString("base64url"),
      iat: now,
      exp: now + 3600,
    })
      .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid })
      .sign(key);
  }

  async function connect(person: Person, options: ConnectionOptions): Promise<Connection> {
    if (options.ownGrants) await grant(store, person.userId, person.grantId);
    const upstreamToken = `ti-${person.number}-${randomBytes(600).toString("base64url")}`.slice(0, 800);
    const { userId, route } = person;
    await insert({
      userId,
      routeId: `route-${route}`,
      upstream: upstreamOf(upstream),
      expiresAt: new Date(Date.now() + (options.expiresIn ?? 3600) * 1000),
      sealed: {
        issuer: "https://as.example.com",
        tokenEndpoint: options.tokenEndpoint,
        clientId: "bench",
        redirectUri: "https://mcp.test/.pomerium/mcp/client/oauth/callback",
        accessToken: upstreamToken,
        tokenType: "Bearer",
        refreshToken: `rt-${randomBytes(16).toString("base64url")}`,
        scopes: ["mcp"],
        resource: upstreamOf(upstream),
      },
      person: {
        email: `user-${person.number}@example.com`,
        name: `User Number ${person.number}`,
        groups: ["staff", "engineering", "mcp-users"],
        claims: {},
      },
    });
    return { ...person, upstreamToken, externalToken: await makeExternalToken(person) };
  }

  return {
    folder,
    store,
    ca,
    env: { ...keyEnv, DATABASE_URL: url },
    async connections(count, options) {
      const first = people;
      people += count;
      const shared = `grant-${randomBytes(8).toString("hex")}`;
      if (!options.ownGrants) await grant(store, "company/everybody", shared);
      const made: Connection[] = [];
      for (let at = 0; at < count; at += 200) {
        const some = Array.from({ length: Math.min(200, count - at) }, (_, index) => {
          const number = first + at + index;
          const grantId = options.ownGrants ? `${shared}-${number}` : shared;
          const userId = `company/${randomBytes(12).toString("hex")}`;
          return connect({ userId, number, grantId, route: number % options.routes }, options);
        });
        made.push(...(await Promise.all(some)));
      }
      return made;
    },
    externalToken: makeExternalToken,
    async routesFile(name, options) {
      const file = join(folder, `${name}.yaml`);
      // JSON is YAML.
      await writeFile(file, JSON.stringify(routesFile(options, ca, folder)), { mode: 0o600 });
      return file;
    },
    async close() {
      keys.close();
      await closeInserts();
      await store.close();
      await own?.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function routesFile(options: RoutesFileOptions, ca: CertificateAuthority, folder: string): object {
  const { upstream, tokenEndpoint } = options;
  return {
    issuer,
    // What is measured asks in Envoy's place.
    listen: { grpc_authentication: "none", ...options.listen },
    database: { dir: join(folder, "data") },
    encryption: { keys: [{ kid: "bench", env: "BENCH_KEY" }] },
    sign_in: {
      providers: [{ id: "company", name: "Company", issuer: "https://id.example.com", client_id: "bench" }],
    },
    upstream_oauth: { allowed_private_hosts: ["127.0.0.1"] },
    envoy: {
      tls: { certificate: ca.files.certificate, key: ca.files.key },
      upstream_ca: ca.files.ca,
      // Connections of one variant wait while others are measured.
      idle_timeout: "1h",
      ...options.envoy,
    },
    policy: [{ allow: { and: [{ groups: { has: "mcp-users" } }] } }],
    routes: Array.from({ length: options.routes }, (_, route) => ({
      id: `route-${route}`,
      from: routeUrl(route),
      to: upstreamOf(upstream),
      mcp: {
        server: {
          upstream_oauth2: {
            client_id: "bench",
            client_secret: "bench-secret",
            endpoint: { auth_url: "http://127.0.0.1:1/authorize", token_url: tokenEndpoint },
            scopes: ["mcp"],
          },
        },
      },
    })),
    ...options.more,
  };
}

function grant(store: Store, userId: string, id: string): Promise<void> {
  return store.authorizationServerRecords.upsert({
    model: "Grant",
    id,
    payload: { accountId: userId, clientId },
    expiresAt: new Date(Date.now() + 3_600_000),
  });
}
