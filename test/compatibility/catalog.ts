import { readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** Where a habit is published. */
export interface Source {
  /** Documentation, a file of a public repository, an issue thread, or the vendor's own metadata document. */
  readonly url: string;
  /** Of the statement, or of the copy that was read; YYYY-MM or YYYY-MM-DD. */
  readonly date: string;
}
interface Entry {
  readonly title: string;
  /** What is peculiar about it, for the table; plain text. */
  readonly habit: string;
  readonly sources: readonly [Source, ...Source[]];
  /** When the sources were read; YYYY-MM-DD. */
  readonly looked: string;
  /** Members of this file that no source says. A file with guesses is run, and does not count. */
  readonly guessed?: readonly string[];
}
export interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Objects go out as JSON, text as it is. */
  readonly body?: unknown;
}
type Json = Readonly<Record<string, unknown>>;

/**
 * An upstream as its sources describe it, by its real URLs. What a file leaves out is answered as the RFCs say: see
 * `scripted-vendors.ts`. In bodies `$access_token`, `$refresh_token`, `$given_refresh_token`, `$client_id`, `$client_secret`,
 * `$redirect_uri` and `$scope` stand for the values of the request.
 */
export interface Upstream extends Entry {
  /** `to` of the route: the URL that its documentation gives to people. */
  readonly to: string;
  /** Where its endpoint is below a `to` that is a host alone, and what people append to the route's URL in their client. */
  readonly path?: string;
  /** `mcp.server` of the route; absent: nothing but the URL. */
  readonly settings?: Json;
  /** It serves those without a token, too. */
  readonly anonymous?: true;
  /** To who has no token, or one that is good no more; default 401 with `Bearer`. */
  readonly unauthorized?: Answer;
  /** Public documents by URL; an `Answer` where it is not simply JSON with 200. */
  readonly documents?: Readonly<Record<string, Json | { readonly answer: Answer }>>;
  /** To any other GET on its hosts; default 404. */
  readonly elsewhere?: Answer;
  readonly registration?: {
    /** Laid over what RFC 7591 says; `undefined` takes a member away. */
    readonly body?: Json;
    readonly status?: number;
    /** It does not register us. */
    readonly refuses?: Answer;
    /** Members that a registration has to have, with these values. */
    readonly wants?: Json;
  };
  readonly authorization?: {
    /** Parameters that it does not work without, with these values (`*`: any). */
    readonly wants?: Readonly<Record<string, string>>;
    /** Parameters that it answers with an error. */
    readonly refuses?: readonly string[];
    /** It sends the browser back with this error (and description) instead of a code. */
    readonly fails?: Readonly<Record<string, string>>;
    /** It shows an error of its own to whoever asks, as it does to clients or redirect URIs that it does not like. */
    readonly shows?: Answer;
    /** Parameters that it adds to its answer; `iss` for one. */
    readonly adds?: Readonly<Record<string, string>>;
  };
  readonly token?: {
    /** Ways to authenticate that really work, where the metadata says something else or nothing. */
    readonly methods?: readonly string[];
    readonly status?: number;
    /** Answer to a code, in place of RFC 6749's; to a refresh, where that differs. */
    readonly first?: Json;
    readonly refreshed?: Json;
    /** Answer to a refresh token that it has revoked. */
    readonly refused?: Answer;
    /** It keeps the refresh token at a refresh. */
    readonly rotates?: false;
    /** It gives no refresh token, or none that is of any use. */
    readonly refreshes?: false;
    /** Answer to every refresh. */
    readonly refusesRefreshes?: Answer;
    readonly wants?: Readonly<Record<string, string>>;
    readonly refuses?: readonly string[];
  };
  /** It cannot be connected: what the person is told, and why that is the vendor's doing. */
  readonly refusal?: { readonly says: string; readonly why: string };
}

/**
 * A client as its sources describe it. In parameters, `$resource` is the URL that it was given, `$origin` that URL's origin. What a file
 * leaves out is as the 2025-11-25 revision of MCP says: the challenge's document, S256, `resource` at every step.
 */
export interface Client extends Entry {
  /** Path of the route's own `from`; default none. */
  readonly routePath?: string;
  /** What people append to the route's URL when they give it to this client; default nothing. */
  readonly path?: string;
  /** What it posts to the registration endpoint. */
  readonly registers?: Json;
  /** Its Client ID Metadata Document, by its real URL. */
  readonly document?: { readonly url: string; readonly body: Json };
  /** The redirect URI that it sends; default: the first that it registers. Loopback ports may differ from the registered one. */
  readonly redirectUri?: string;
  /** Where it looks for protected resource metadata, in order; `server-root`: it takes the MCP server for its authorization server. */
  readonly discovers?: readonly ("challenge" | "resource-path" | "resource-root" | "server-root")[];
  /** It goes no further when the metadata names another resource than the URL that it was given. */
  readonly comparesResource?: true;
  readonly discoveryHeaders?: Readonly<Record<string, string>>;
  /** Well-known documents of an issuer that it asks for, in order. */
  readonly metadata?: readonly ("oauth-authorization-server" | "openid-configuration")[];
  /** Parameters of /authorize beyond client, redirect URI and PKCE. */
  readonly authorize?: Readonly<Record<string, string>>;
  readonly token?: {
    /** How it authenticates; default: as its registration was answered. */
    readonly method?: "none" | "client_secret_post" | "client_secret_basic";
    /** `client_id` in the body, beside Basic. */
    readonly repeatsClientId?: true;
    /** Parameters beyond code, redirect URI and verifier. */
    readonly parameters?: Readonly<Record<string, string>>;
    readonly headers?: Readonly<Record<string, string>>;
  };
  /** Parameters of a refresh beyond the token; `false`: it never refreshes. */
  readonly refresh?: Readonly<Record<string, string>> | false;
  /** Of its MCP requests. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly protocolVersion?: string;
  /** `mcp.server` of the route, where the defaults do not do. */
  readonly settings?: Json;
  /** It never says which server it means: a page of ours asks the person. */
  readonly personSaysServer?: true;
  /** It cannot connect: what the person or the client is told, and why that is the client's doing. */
  readonly refusal?: { readonly says: string; readonly why: string };
}

/** Names of files that are walked alone while one is being written: `CATALOG_ONLY=figma,vercel`. */
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

/** What two files may not have in common: requests and answers, whatever the hosts and the product are called. */
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

/** Hosts that an entry's files speak of. */
export function hostsOf(entry: Upstream | Client): string[] {
  const { sources: _, habit: __, ...rest } = entry;
  const found = JSON.stringify(rest).matchAll(/https:\/\/([a-z0-9.-]+)/gi);
  return [...new Set([...found].map(([, host = ""]) => host.toLowerCase()))];
}
