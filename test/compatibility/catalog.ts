import { readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** Where a behavior is published. */
export interface Source {
  /** Documentation, a file of a public repository, an issue thread, or the vendor's own metadata document. */
  readonly url: string;
  /** Of the statement, or of the copy that was read; YYYY-MM or YYYY-MM-DD. */
  readonly date: string;
}
interface Entry {
  readonly title: string;
  /** Its distinctive behavior, for the table; plain text. */
  readonly habit: string;
  readonly sources: readonly [Source, ...Source[]];
  /** When the sources were read; YYYY-MM-DD. */
  readonly looked: string;
  /** Members of this file without a source. A file with guesses is run, but not counted. */
  readonly guessed?: readonly string[];
}
export interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Objects are sent as JSON, text unchanged. */
  readonly body?: unknown;
}
type Json = Readonly<Record<string, unknown>>;

/**
 * An upstream as its sources describe it, with its real URLs. Whatever a file omits is answered according to the RFCs: see
 * `scripted-vendors.ts`. In bodies `$access_token`, `$refresh_token`, `$given_refresh_token`, `$client_id`, `$client_secret`,
 * `$redirect_uri` and `$scope` stand for the values of the request.
 */
export interface Upstream extends Entry {
  /** `to` of the route: the URL in its documentation. */
  readonly to: string;
  /** Path of its endpoint if `to` is only a host; users append it to the route's URL in their client. */
  readonly path?: string;
  /** `mcp.server` of the route; absent: only the URL is set. */
  readonly settings?: Json;
  /** It also serves requests without a token. */
  readonly anonymous?: true;
  /** Response to a request without a valid token; default 401 with `Bearer`. */
  readonly unauthorized?: Answer;
  /** Public documents by URL; an `Answer` if it is not JSON with status 200. */
  readonly documents?: Readonly<Record<string, Json | { readonly answer: Answer }>>;
  /** Response to any other GET on its hosts; default 404. */
  readonly elsewhere?: Answer;
  readonly registration?: {
    /** Overrides the response of RFC 7591; `undefined` removes a member. */
    readonly body?: Json;
    readonly status?: number;
    /** It does not register clients. */
    readonly refuses?: Answer;
    /** Members that a registration must have, with these values. */
    readonly wants?: Json;
  };
  readonly authorization?: {
    /** Required parameters, with these values (`*`: any). */
    readonly wants?: Readonly<Record<string, string>>;
    /** Parameters that it rejects with an error. */
    readonly refuses?: readonly string[];
    /** It redirects the browser back with this error (and description) instead of a code. */
    readonly fails?: Readonly<Record<string, string>>;
    /** It shows its own error page, as it does for clients or redirect URIs that it rejects. */
    readonly shows?: Answer;
    /** Parameters that it adds to its response, for example `iss`. */
    readonly adds?: Readonly<Record<string, string>>;
  };
  readonly token?: {
    /** Authentication methods that actually work, if the metadata is wrong or silent. */
    readonly methods?: readonly string[];
    readonly status?: number;
    /** Response to a code instead of RFC 6749's, and to a refresh if that differs. */
    readonly first?: Json;
    readonly refreshed?: Json;
    /** Response to a revoked refresh token. */
    readonly refused?: Answer;
    /** It does not rotate refresh tokens. */
    readonly rotates?: false;
    /** It issues no usable refresh token. */
    readonly refreshes?: false;
    /** Response to every refresh. */
    readonly refusesRefreshes?: Answer;
    readonly wants?: Readonly<Record<string, string>>;
    readonly refuses?: readonly string[];
  };
  /** It cannot be connected: the message for the user, and why the vendor causes it. */
  readonly refusal?: { readonly says: string; readonly why: string };
}

/**
 * A client as its sources describe it. In parameters, `$resource` is the URL that it was configured with, `$origin` that URL's origin.
 * Whatever a file omits follows the 2025-11-25 revision of MCP: the challenge's document, S256, `resource` at every step.
 */
export interface Client extends Entry {
  /** Path of the route's own `from`; default none. */
  readonly routePath?: string;
  /** What users append to the route's URL in this client; default nothing. */
  readonly path?: string;
  /** Its registration request. */
  readonly registers?: Json;
  /** Its Client ID Metadata Document, by its real URL. */
  readonly document?: { readonly url: string; readonly body: Json };
  /** The redirect URI that it sends; default: the first that it registers. Loopback ports may differ from the registered one. */
  readonly redirectUri?: string;
  /** Where it looks for protected resource metadata, in order; `server-root`: it treats the MCP server as the authorization server. */
  readonly discovers?: readonly ("challenge" | "resource-path" | "resource-root" | "server-root")[];
  /** It stops if the metadata names a resource other than its configured URL. */
  readonly comparesResource?: true;
  readonly discoveryHeaders?: Readonly<Record<string, string>>;
  /** Well-known documents of an issuer that it requests, in order. */
  readonly metadata?: readonly ("oauth-authorization-server" | "openid-configuration")[];
  /** Parameters of /authorize in addition to client, redirect URI and PKCE. */
  readonly authorize?: Readonly<Record<string, string>>;
  readonly token?: {
    /** How it authenticates; default: as in the response to its registration. */
    readonly method?: "none" | "client_secret_post" | "client_secret_basic";
    /** Sends `client_id` in the body in addition to Basic. */
    readonly repeatsClientId?: true;
    /** Parameters in addition to code, redirect URI and verifier. */
    readonly parameters?: Readonly<Record<string, string>>;
    readonly headers?: Readonly<Record<string, string>>;
  };
  /** Parameters of a refresh in addition to the token; `false`: it never refreshes. */
  readonly refresh?: Readonly<Record<string, string>> | false;
  /** Of its MCP requests. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly protocolVersion?: string;
  /** `mcp.server` of the route, if the defaults do not work. */
  readonly settings?: Json;
  /** It never names the server: a page of the gateway asks the user. */
  readonly personSaysServer?: true;
  /** It cannot connect: the message for the user or the client, and why the client causes it. */
  readonly refusal?: { readonly says: string; readonly why: string };
}

/** Runs only these files, while one is being written: `CATALOG_ONLY=figma,vercel`. */
const only = process.env.CATALOG_ONLY?.split(",");
export const isWalked = (name: string) => only === undefined || only.includes(name);

/** Every file of the catalog by its name. */
export const upstreams = () => load<Upstream>("upstreams");
export const clients = () => load<Client>("clients");

async function load<One>(folder: string): Promise<Map<string, One>> {
  const path = join(import.meta.dirname, folder);
  const names = readdirSync(path).filter((name) => name.endsWith(".ts"));
  const loaded = await Promise.all(
    names.sort().map(async (name): Promise<[string, One]> => {
      const module: { default: One } = await import(pathToFileURL(join(path, name)).href);
      return [name.replace(/\.ts$/, ""), module.default];
    }),
  );
  return new Map(loaded);
}

/** What must differ between two files: requests and responses, regardless of host and product names. */
export function fingerprint(entry: Upstream | Client): string {
  const { title: _, habit: __, sources: ___, looked: ____, guessed: _____, ...habits } = entry;
  const names: string[] = [];
  const nameless = JSON.stringify(sorted(habits), (key, value) =>
    /^(?:client_name|client_uri|logo_uri|resource_name|resource_documentation|service_documentation)$/.test(
      key,
    )
      ? "a name"
      : value,
  );
  return nameless.replace(/https:\/\/([a-z0-9.-]+)/gi, (_match, host: string) => {
    if (!names.includes(host)) names.push(host);
    return `https://host-${names.indexOf(host)}`;
  });
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  );
}

/** Hosts that an entry mentions. */
export function hostsOf(entry: Upstream | Client): string[] {
  const { sources: _, habit: __, ...rest } = entry;
  const found = JSON.stringify(rest).matchAll(/https:\/\/([a-z0-9.-]+)/gi);
  return [...new Set([...found].map(([, host = ""]) => host.toLowerCase()))];
}
