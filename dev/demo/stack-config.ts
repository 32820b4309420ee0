/** The routes file before it is written; options of a stack may change any part of it. */
export interface StackConfig {
  routes: Record<string, unknown>[];
  [key: string]: unknown;
}

/** Addresses of the parts of a stack: `127.0.0.1:PORT`. */
export interface StackPlaces {
  readonly issuer: string;
  readonly everything: { readonly from: string; readonly to: string };
  readonly open: { readonly from: string; readonly to: string };
  readonly openidIssuer: string;
  readonly upstreamIssuer: string;
  readonly clientSecrets: { readonly openid: string; readonly upstream: string };
  readonly listen: { readonly grpc: string; readonly http: string; readonly admin: string };
  /** Authenticates Envoy to the sidecar. */
  readonly envoySecret: string;
  readonly envoy: { readonly listen: string; readonly admin: string };
  /** Where the sidecar calls the members of aggregated routes. */
  readonly aggregation: { readonly listen: string } | { readonly through: string; readonly ca: string };
  readonly tls: { readonly certificate: string; readonly key: string; readonly ca: string };
}

/** The gateway's client at the company's provider and at the upstream's authorization server. */
export const stackClientId = "envoy-mcp-auth";

/** The routes file of the demo: one route that needs an upstream token, one that needs none. */
export function stackConfig(places: StackPlaces): StackConfig {
  const { upstreamIssuer, clientSecrets } = places;
  return {
    issuer: places.issuer,
    listen: { ...places.listen, envoy_secret: places.envoySecret },
    database: { dir: "data" },
    encryption: { keys: [{ kid: "demo", file: "encryption-key" }] },
    sign_in: {
      providers: [
        {
          id: "company",
          name: "Company sign-in",
          issuer: places.openidIssuer,
          client_id: stackClientId,
          client_secret: clientSecrets.openid,
          scopes: ["openid", "profile", "email", "groups"],
        },
      ],
    },
    upstream_oauth: { allowed_private_hosts: ["127.0.0.1", "localhost"] },
    envoy: {
      listen: places.envoy.listen,
      admin: places.envoy.admin,
      tls: { certificate: places.tls.certificate, key: places.tls.key },
      upstream_ca: places.tls.ca,
    },
    aggregation: places.aggregation,
    policy: [{ allow: { and: [{ authenticated_user: true }] } }],
    routes: [
      {
        id: "everything",
        name: "Everything",
        description: "An MCP server that requires a token of its own authorization server",
        from: places.everything.from,
        to: places.everything.to,
        mcp: {
          server: {
            upstream_oauth2: {
              client_id: stackClientId,
              client_secret: clientSecrets.upstream,
              endpoint: {
                auth_url: `${upstreamIssuer}/auth`,
                token_url: `${upstreamIssuer}/token`,
                revocation_url: `${upstreamIssuer}/token/revocation`,
                auth_style: "client_secret_basic",
              },
              scopes: ["mcp:read"],
            },
          },
        },
      },
      {
        id: "open",
        name: "Open",
        description: "An MCP server that asks nobody for a token",
        from: places.open.from,
        to: places.open.to,
        mcp: { server: { upstream_auth: "none" } },
      },
    ],
  };
}

/** The demo's third route: both servers behind one URL. */
export function everythingAtOnce(config: StackConfig): StackConfig {
  const all = {
    id: "all",
    name: "Everything at once",
    description: "All MCP servers of this gateway behind one URL",
    from: `${config.issuer}/all`,
    mcp: { aggregate: { routes: "all" } },
  };
  return { ...config, routes: [...config.routes, all] };
}
