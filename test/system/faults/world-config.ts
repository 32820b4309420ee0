import type { RotatingAuthorizationServer } from "./rotating-authorization-server.ts";

/** Addresses of one replica's listeners. */
export interface Doors {
  readonly grpc: string;
  readonly http: string;
  readonly admin: string;
}

/** The routes file of a replica, before it is written; a fault may change any part of it. */
export interface WorldConfig {
  encryption: { keys: object[] };
  routes: object[];
  [key: string]: unknown;
}

export const issuer = "https://auth.test";
export const publicHost = "mcp.test";
/** Environment variables that hold the encryption keys, by kid. */
export const keyVariables = { k1: "FAULTS_KEY_1", k2: "FAULTS_KEY_2" } as const;

export const resourceOf = (routeId: string) => `https://${publicHost}/${routeId}`;

/** Routes that require an upstream token of `server`, and two without: `open`, and `inspected`, whose bodies policy reads. */
export function worldConfig(options: {
  readonly doors: Doors;
  readonly all: readonly Doors[];
  readonly database: object;
  readonly server: Pick<RotatingAuthorizationServer, "url" | "clientId" | "clientSecret">;
  readonly openid: { readonly issuer: string; readonly clientId: string; readonly clientSecret: string };
  readonly envoy: { readonly listen: string; readonly admin: string };
  readonly tls: { readonly certificate: string; readonly key: string; readonly ca: string };
  readonly routes: readonly string[];
  readonly upstreamOf: (routeId: string) => string;
  readonly upstreamTimeout: string;
}): WorldConfig {
  const { server, openid, tls, upstreamOf } = options;
  return {
    issuer,
    listen: { ...options.doors, envoy_secret: "what-envoy-proves-itself-with-here-1" },
    database: options.database,
    encryption: { keys: [{ kid: "k1", env: keyVariables.k1 }] },
    sign_in: {
      recheck: "1s",
      providers: [
        {
          id: "company",
          issuer: openid.issuer,
          client_id: openid.clientId,
          client_secret: openid.clientSecret,
          scopes: ["openid", "email", "offline_access"],
        },
      ],
    },
    upstream_oauth: {
      allowed_private_hosts: ["127.0.0.1", "localhost"],
      timeout: options.upstreamTimeout,
    },
    envoy: {
      ...options.envoy,
      tls: { certificate: tls.certificate, key: tls.key },
      upstream_ca: tls.ca,
      sidecar: { grpc: options.all.map(({ grpc }) => grpc), http: options.all.map(({ http }) => http) },
    },
    policy: [{ allow: { and: [{ authenticated_user: true }] } }],
    routes: [
      ...options.routes.map((id) => ({
        id,
        from: resourceOf(id),
        to: upstreamOf(id),
        mcp: {
          server: {
            upstream_oauth2: {
              client_id: server.clientId,
              client_secret: server.clientSecret,
              endpoint: {
                auth_url: `${server.url}/authorize`,
                token_url: `${server.url}/token`,
                revocation_url: `${server.url}/revoke`,
                auth_style: "client_secret_basic",
              },
            },
          },
        },
      })),
      {
        id: "open",
        from: resourceOf("open"),
        to: upstreamOf("open"),
        mcp: { server: { upstream_auth: "none" } },
      },
      {
        id: "inspected",
        from: resourceOf("inspected"),
        to: upstreamOf("inspected"),
        tools: { deny: ["nothing"] },
        mcp: { server: { upstream_auth: "none" } },
      },
    ],
  };
}
