import { stringify } from "yaml";
import { credentialHeaderFault, requestHeaderFault } from "../config/header-names.ts";
import type { RoutePlaces } from "./route-places.ts";
import type { ImportedServer } from "./servers.ts";

/** A server with the id of its route. */
export interface Placed {
  readonly id: string;
  readonly server: ImportedServer;
}

/** Who signs in, for a complete routes file. */
export interface SignIn {
  /** Issuer of the OpenID provider. */
  readonly issuer: string;
  readonly clientId: string;
  /** Domain of the e-mail addresses that may use the servers. */
  readonly domain: string;
}

/** The variable with the token that Envoy sends to the bridge. */
export const bridgeTokenVariable = "MCP_BRIDGE_TOKEN";

type Json = { readonly [key: string]: unknown };

/**
 * The routes of the servers.
 * @param options.bridge address of the bridge, `host:port`
 * @returns the routes, and the variables that they name, with their values
 */
export function serverRoutes(
  placed: readonly Placed[],
  options: { readonly places: RoutePlaces; readonly bridge: string },
): { readonly routes: readonly Json[]; readonly variables: Readonly<Record<string, string>> } {
  const variables: Record<string, string> = {};
  const routes = placed.map(({ id, server }) => ({
    id,
    name: server.name,
    ...(server.description && { description: server.description }),
    from: options.places.from(id),
    ...(server.kind === "stdio"
      ? {
          to: `http://${options.bridge}/servers/${id}/mcp`,
          // The bridge binds sessions to users by it.
          pass_identity_headers: true,
          mcp: {
            server: {
              upstream_auth: { headers: { Authorization: `Bearer \${${bridgeTokenVariable}}` } },
              request_headers: {},
            },
          },
        }
      : { to: server.url, mcp: { server: remoteServer(id, server, variables) } }),
    ...(Object.keys(server.tools).length > 0 && { tools: server.tools }),
  }));
  return { routes, variables };
}

function remoteServer(
  id: string,
  server: Extract<ImportedServer, { kind: "remote" }>,
  variables: Record<string, string>,
): Json {
  const references = (headers: typeof server.headers) =>
    Object.fromEntries(
      headers.map(([name, value]) => {
        let variable = `MCP_${id}_${name}`.toUpperCase().replace(/[^A-Z0-9]+/g, "_");
        while (variable in variables) variable += "_";
        variables[variable] = value;
        return [name, `\${${variable}}`];
      }),
    );
  return {
    ...(server.open && { upstream_auth: "none" }),
    ...(server.credentials.length > 0 && { upstream_auth: { headers: references(server.credentials) } }),
    request_headers: server.headers.length > 0 ? { set: references(server.headers) } : {},
  };
}

/** Why the headers of a server cannot be sent by the gateway; undefined if they can. */
export function headerFault(server: ImportedServer): string | undefined {
  if (server.kind === "stdio") return undefined;
  const all = [...server.credentials, ...server.headers].map(([name]) => name.toLowerCase());
  const twin = all.find((name, index) => all.indexOf(name) !== index);
  if (twin !== undefined) return `${twin} is set twice`;
  for (const [name] of server.credentials) {
    const fault = credentialHeaderFault(name);
    if (fault !== undefined) return fault;
  }
  for (const [name] of server.headers) {
    const fault = credentialHeaderFault(name) ?? requestHeaderFault(name.toLowerCase(), "set");
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** The route that serves all the others as one MCP server; the default prefix of its tools is `{route}__`. */
export function aggregatedRoute(id: string, members: readonly Placed[], places: RoutePlaces): Json {
  return {
    id,
    name: "All servers",
    from: places.from(id),
    mcp: { aggregate: { routes: members.map((member) => member.id) } },
  };
}

/**
 * The text of a routes file: complete with `signIn`, otherwise only `routes`, to be added to a file.
 * @param routes as for YAML
 */
export function routesFile(
  routes: readonly Json[],
  options: { readonly places: RoutePlaces; readonly signIn?: SignIn },
): string {
  const { places, signIn } = options;
  const head =
    "# Written by `envoy-mcp-auth import`. The variables are in secrets.env.\n" +
    (signIn === undefined ? "# Add these routes to your routes file.\n" : "");
  return head + stringify({ ...(signIn && gateway(places, signIn)), routes }, { lineWidth: 0 });
}

function gateway({ issuer }: RoutePlaces, { issuer: provider, clientId, domain }: SignIn): Json {
  const url = new URL(issuer);
  const local = url.protocol === "http:";
  return {
    issuer,
    listen: { envoy_secret: `\${ENVOY_SECRET}` },
    sign_in: {
      providers: [
        {
          id: "company",
          issuer: provider,
          client_id: clientId,
          client_secret: `\${OIDC_CLIENT_SECRET}`,
          email_domains: [domain],
        },
      ],
    },
    ...(!local && {
      envoy: {
        listen: `0.0.0.0:${url.port || 443}`,
        tls: { certificate: "tls/tls.crt", key: "tls/tls.key" },
      },
    }),
    policy: [{ allow: { and: [{ domain: { is: domain } }] } }],
  };
}
