import { createHash } from "node:crypto";
import type { z } from "zod";
import type { PolicyNode, PolicyRule, PolicySource, Route, RouteMcp } from "../model/route.ts";
import { claimHeaders, usableClaimHeaders } from "./claim-headers.ts";
import type { RouteDefaults } from "./config.ts";
import { decodedName, queryPairs } from "./paths.ts";
import type { Reporter } from "./reporter.ts";
import { type routeSchema, wellKnownTexts } from "./route-schema.ts";
import { buildUpstreamAuth, takesDiscovery } from "./upstream-auth/upstream-auth.ts";
import { upstreamHash } from "./upstream-urls.ts";
import type { ConfigPath } from "./yaml-source.ts";

/** Readable, and unique per `from`: the slug alone could collide (`/a-b` and `/a/b`). */
export function derivedRouteId(resource: string): string {
  const slug = resource
    .replace(/^https?:\/\//, "")
    .replace(/[^A-Za-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
  return `${slug.slice(0, 80)}-${createHash("sha256").update(resource).digest("hex").slice(0, 8)}`;
}

type RouteInput = z.output<ReturnType<typeof routeSchema>>;
type ServerInput = NonNullable<RouteInput["mcp"]["server"]>;

/**
 * Builds a route from its validated entry. Reports contradictions between its fields.
 * @returns undefined if there are any
 */
export function buildRoute(
  input: RouteInput,
  path: ConfigPath,
  reporter: Reporter,
  given: {
    readonly from: Pick<Route, "origin" | "host" | "prefix">;
    /** Policy of the route, already parsed. */
    readonly policy: PolicySource | undefined;
    readonly defaults: RouteDefaults;
  },
): Route | undefined {
  const { from, defaults } = given;
  const resource = from.prefix === "/" ? from.origin : from.origin + from.prefix;
  const mcp = readMcp(input, path, reporter);
  const to =
    input.mcp.aggregate === undefined ? readTo(input, path, reporter) : { to: [], upstream: resource };
  if (to === undefined || mcp === undefined) return undefined;
  const { jwt_claims_headers: own } = input;
  const claims = usableClaimHeaders(
    claimHeaders(own, defaults.claimHeaders),
    own !== undefined,
    mcp,
    path,
    reporter,
  );
  if (claims.fault) return undefined;
  const policy = joinPolicies(input, path, given.policy) ?? defaults.policy;
  if (policy === undefined) {
    reporter.warn(
      [...path, "from"],
      "the route has no policy: it denies all requests",
      "add policy: {allow: {or: [{domain: example.com}]}}, here or at the top level",
    );
  }
  const missing = clearedSecrets(input);
  const serverName = input.tls_upstream_server_name ?? input.tls_server_name;
  const upstreamTls = {
    ...(serverName === undefined ? {} : { serverName }),
    ...(input.tls_custom_ca_file === undefined ? {} : { caFile: input.tls_custom_ca_file }),
  };
  return {
    id: input.id ?? derivedRouteId(resource),
    name: input.name ?? `${from.host}${from.prefix === "/" ? "" : from.prefix}`,
    description: input.description ?? "",
    ...(input.logo_url === undefined ? {} : { logoUrl: input.logo_url }),
    ...(input.labels === undefined ? {} : { labels: input.labels }),
    ...from,
    resource,
    ...to,
    upstreamHash: upstreamHash({
      ...to,
      upstreamTls,
      ...(input.preserve_host_header === undefined ? {} : { preserveHostHeader: input.preserve_host_header }),
    }),
    mcp,
    ...(missing.length === 0 ? {} : { missingSecrets: missing }),
    ...(lacksClientSecret(mcp) ? { clientSecretMissing: true } : {}),
    ...(policy === undefined ? {} : { policy }),
    passIdentityHeaders: input.pass_identity_headers ?? defaults.passIdentityHeaders,
    ...(claims.headers === undefined ? {} : { claimHeaders: claims.headers }),
    enabled: input.enabled,
    ...(input.well_known === undefined ? {} : { wellKnown: wellKnownTexts(input.well_known) }),
    ...(Object.keys(upstreamTls).length === 0 ? {} : { upstreamTls }),
    ...(input.preserve_host_header === undefined ? {} : { preserveHostHeader: input.preserve_host_header }),
    ...(input.rate_limit === undefined
      ? {}
      : {
          rateLimit: {
            requestsPerMinute: input.rate_limit.requests_per_minute,
            toolCallsPerMinute: input.rate_limit.tool_calls_per_minute,
          },
        }),
  };
}

/** Paths of the credentials that are empty: an administrator has cleared them. */
function clearedSecrets({ mcp }: RouteInput): readonly string[] {
  const emptyIn = (value: unknown, path: string): string[] => {
    if (value === "") return [path];
    if (typeof value !== "object" || value === null) return [];
    return Object.entries(value).flatMap(([key, inner]) => emptyIn(inner, `${path}.${key}`));
  };
  const { upstream_auth: auth, request_headers: headers } = mcp.server ?? {};
  const oauth = ({ client_secret, private_key }: NonNullable<RouteInput["mcp"]["upstream_oauth2"]>) => ({
    client_secret,
    private_key,
  });
  return [
    ...emptyIn(auth, "mcp.server.upstream_auth"),
    ...(auth?.headers && Object.keys(auth.headers).length === 0 ? ["mcp.server.upstream_auth.headers"] : []),
    ...emptyIn(
      mcp.server?.upstream_oauth2 && oauth(mcp.server.upstream_oauth2),
      "mcp.server.upstream_oauth2",
    ),
    ...emptyIn(mcp.upstream_oauth2 && oauth(mcp.upstream_oauth2), "mcp.upstream_oauth2"),
    ...emptyIn(headers?.set, "mcp.server.request_headers.set"),
  ];
}

/** Whether the secret or the key of its client is among them. */
function lacksClientSecret(mcp: RouteMcp): boolean {
  if (mcp.kind !== "server" || !("clientId" in mcp.auth)) return false;
  return mcp.auth.clientSecret === "" || mcp.auth.privateKey === "";
}

/** Largest request body of an aggregated route, bytes. */
const aggregateRequestBytes = 4 * 1024 * 1024;

function readTo(input: RouteInput, path: ConfigPath, reporter: Reporter) {
  const { to: written = [], prefix_rewrite: rewrite } = input;
  const urls = written.map((value) => new URL(value));
  const [first] = urls;
  if (first === undefined) return undefined;
  const at = (index: number) => (written.length === 1 ? [...path, "to"] : [...path, "to", index]);
  const bad = urls.findIndex(
    (url) =>
      url.pathname !== first.pathname || url.protocol !== first.protocol || url.search !== first.search,
  );
  if (bad >= 0) {
    reporter.error(
      at(bad),
      "all URLs of one `to` must have the same scheme, path and query",
      `write the same as in the first: ${first.protocol}//...${first.pathname}${first.search}`,
    );
    return undefined;
  }
  if (rewrite !== undefined && first.pathname !== "/") {
    reporter.error(
      [...path, "prefix_rewrite"],
      "the path that replaces the path of `from` is set in both `to` and prefix_rewrite",
      "keep the one in `to`",
      "key",
    );
    return undefined;
  }
  const names = [...queryPairs(first.search)].map(([name]) => decodedName(name));
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    reporter.error(at(0), `the query of \`to\` has ${twice} twice`, "write each parameter once");
    return undefined;
  }
  const pathname = rewrite ?? first.pathname;
  const canonical = urls.map(
    ({ origin, search }) => (pathname === "/" ? origin : origin + pathname) + search,
  );
  return {
    to: canonical,
    upstream: canonical[0] ?? "",
    ...(pathname === "/" && rewrite === undefined ? {} : { upstreamPath: pathname }),
    ...(names.length === 0 ? {} : { upstreamQuery: queryPairs(first.search) }),
  };
}

function readMcp(input: RouteInput, path: ConfigPath, reporter: Reporter): RouteMcp | undefined {
  const { mcp } = input;
  const at = [...path, "mcp"];
  const fail = (key: string, message: string, fix: string) => {
    reporter.error([...at, key], message, fix, "key");
    return undefined;
  };
  if (mcp.aggregate !== undefined) return readAggregate(input, path, reporter);
  if (mcp.client !== undefined || mcp.pass_upstream_access_token === true)
    return readClient(input, path, reporter);
  if (mcp.upstream_oauth2 !== undefined && mcp.server?.upstream_oauth2 !== undefined) {
    return fail("upstream_oauth2", "upstream_oauth2 is set in two places", "keep mcp.server.upstream_oauth2");
  }
  const server = mcp.server;
  const oauth = server?.upstream_oauth2 ?? mcp.upstream_oauth2;
  if (oauth !== undefined && server?.upstream_auth !== undefined) {
    return fail("server", "upstream_oauth2 and upstream_auth contradict each other", "keep one");
  }
  if ((oauth?.client_secret ?? oauth?.private_key) !== undefined && oauth?.client_id === undefined) {
    return fail(
      server?.upstream_oauth2 ? "server" : "upstream_oauth2",
      "a client_secret or private_key needs a client_id",
      "add client_id",
    );
  }
  if (oauth?.endpoint?.auth_url !== undefined && oauth.client_id === undefined) {
    return fail(
      server?.upstream_oauth2 ? "server" : "upstream_oauth2",
      "explicit endpoints need a client_id",
      "add client_id, or remove endpoint to use discovery",
    );
  }
  const auth = buildUpstreamAuth(
    { kinds: server?.upstream_auth, oauth },
    { authorizationServerUrl: server?.authorization_server_url },
  );
  const tokenUrl = auth.mode === "non_interactive" ? auth.tokenUrl : undefined;
  if (server?.authorization_server_url !== undefined && !takesDiscovery(auth)) {
    reporter.error(
      [...at, "server", "authorization_server_url"],
      "nothing is discovered here, so authorization_server_url is never used",
      "remove it",
      "key",
    );
    return undefined;
  }
  const looksUp = takesDiscovery(auth) && tokenUrl === undefined;
  const key = server?.expected_issuer !== undefined ? "expected_issuer" : "resource";
  if (!looksUp && (server?.expected_issuer !== undefined || server?.resource === "exact")) {
    const message = `nothing is discovered here, so ${key} is never compared`;
    reporter.error([...at, "server", key], message, "remove it", "key");
    return undefined;
  }
  if (auth.mode === "non_interactive" && tokenUrl !== undefined && auth.authorizationServerUrl !== undefined)
    return fail("server", "token_url and authorization_server_url contradict each other", "keep one");
  if (server?.tools !== undefined && input.tools !== undefined) {
    reporter.error([...path, "tools"], "tools is set in two places", "keep the route's own", "key");
    return undefined;
  }
  const tools = input.tools ?? server?.tools;
  const requestHeaders = readRequestHeaders(server);
  const own = new Set(auth.mode === "static" ? auth.headers.map(([name]) => name) : []);
  const twice = requestHeaders.set.find(([name]) => own.has(name))?.[0];
  if (twice !== undefined)
    return fail("server", `${twice} is set in two places`, "remove it from request_headers");
  return {
    kind: "server",
    path: server?.path ?? "/",
    maxRequestBytes: server?.max_request_bytes ?? 1024 * 1024,
    consent: server?.consent ?? "auto",
    auth,
    ...(server?.expected_issuer === undefined ? {} : { expectedIssuer: server.expected_issuer }),
    ...(server?.resource === "exact" ? { exactResource: true } : {}),
    requestHeaders,
    ...(tools === undefined ? {} : { tools }),
  };
}

function readRequestHeaders(server: ServerInput | undefined) {
  const given = server?.request_headers;
  const set = Object.entries(given?.set ?? {}).map(([name, value]) => [name.toLowerCase(), value] as const);
  return { pass: (given?.pass ?? []).map((name) => name.toLowerCase()), set, given: given !== undefined };
}

/** Settings of an upstream, which an aggregated route does not have. */
const upstreamKeys = [
  "to",
  "prefix_rewrite",
  "preserve_host_header",
  "tls_upstream_server_name",
  "tls_server_name",
  "tls_custom_ca_file",
] as const;

/** An aggregated route; undefined if it has settings that only a route with an upstream, or an application's, can have. */
function readAggregate(input: RouteInput, path: ConfigPath, reporter: Reporter): RouteMcp | undefined {
  const { mcp } = input;
  const misplaced = [
    ...upstreamKeys.filter((key) => input[key] !== undefined).map((key) => [key]),
    ...(["server", "client", "upstream_oauth2", "pass_upstream_access_token"] as const)
      .filter((key) => mcp[key] !== undefined)
      .map((key) => ["mcp", key]),
  ];
  for (const at of misplaced)
    reporter.error(
      [...path, ...at],
      "an aggregated route has no upstream of its own",
      "remove the key; write it on the routes that the aggregated route names",
      "key",
    );
  if (misplaced.length > 0 || mcp.aggregate === undefined) return undefined;
  return {
    kind: "server",
    path: "/",
    maxRequestBytes: aggregateRequestBytes,
    // Without an upstream, no call of it lacks a consent; its members have their own setting.
    consent: "challenge",
    auth: { mode: "static", type: "aggregate", headers: [] },
    requestHeaders: { pass: [], set: [], given: false },
    ...(input.tools === undefined ? {} : { tools: input.tools }),
    aggregate: { members: mcp.aggregate.routes, prefix: mcp.aggregate.prefix },
  };
}

/** An application's route; undefined if it has settings that only an MCP server's route can have. */
function readClient(input: RouteInput, path: ConfigPath, reporter: Reporter): RouteMcp | undefined {
  const { mcp, tools, rate_limit: limit } = input;
  const noTools = "requests to an application call no tools: the key would have no effect";
  const misplaced = [
    {
      given: mcp.server,
      at: ["mcp", "server"],
      why: "a route is a server or a client, not both",
      fix: "remove one",
    },
    {
      given: mcp.upstream_oauth2,
      at: ["mcp", "upstream_oauth2"],
      why: "an application gets the gateway's own token",
      fix: "remove upstream_oauth2",
    },
    {
      given: tools,
      at: ["tools"],
      why: noTools,
      fix: "write tools on the MCP routes that the application calls",
    },
    {
      given: limit?.tool_calls_per_minute,
      at: ["rate_limit", "tool_calls_per_minute"],
      why: noTools,
      fix: "write it on the MCP routes that the application calls, or requests_per_minute here",
    },
  ].filter(({ given }) => given !== undefined);
  for (const { at, why, fix } of misplaced) reporter.error([...path, ...at], why, fix, "key");
  if (misplaced.length > 0) return undefined;
  const routes = mcp.client?.routes;
  return {
    kind: "client",
    ...(routes === undefined ? {} : { routes }),
    ...(mcp.client?.shares_host ? { sharesHost: true } : {}),
  };
}

/** Combines `policy` with Pomerium's older allow lists; either allows, as in Pomerium. */
function joinPolicies(
  input: RouteInput,
  path: ConfigPath,
  policy: PolicySource | undefined,
): PolicySource | undefined {
  const is = (criterion: string, value: string | number | boolean, claim?: string): PolicyNode => ({
    op: "criterion",
    criterion,
    ...(claim === undefined ? {} : { claim }),
    matcher: { kind: claim === undefined ? "is" : "has", value },
  });
  const listed: PolicyRule[] = [];
  const list = (key: string, nodes: readonly PolicyNode[] | undefined) => {
    if (nodes === undefined) return;
    const name = `${path.map((step) => (typeof step === "number" ? `[${step}]` : step)).join("")}.${key}`;
    // An empty list allows nobody: it becomes a rule that never matches, not a missing rule.
    const nobody: PolicyNode = {
      op: "not",
      nodes: [{ op: "criterion", criterion: "accept", matcher: { kind: "always" } }],
    };
    listed.push({ action: "allow", name, when: nodes.length === 0 ? nobody : { op: "or", nodes } });
  };
  list(
    "allow_any_authenticated_user",
    input.allow_any_authenticated_user === true
      ? [{ op: "criterion", criterion: "authenticated_user", matcher: { kind: "always" } }]
      : undefined,
  );
  list(
    "allowed_domains",
    input.allowed_domains?.map((domain) => is("domain", domain)),
  );
  list(
    "allowed_users",
    input.allowed_users?.flatMap((user) => [is("user", user), is("email", user)]),
  );
  list(
    "allowed_idp_claims",
    input.allowed_idp_claims &&
      Object.entries(input.allowed_idp_claims).flatMap(([claim, values]) =>
        values.map((value) => is("claim", value, claim)),
      ),
  );
  return policy === undefined && listed.length === 0 ? undefined : [...listed, ...(policy ?? [])];
}
