import { LRUCache } from "lru-cache";
import Provider, { type KoaContextWithOIDC } from "oidc-provider";
import { countPerHour } from "../server/http/limits.ts";
import { clientAddress } from "../server/http/request.ts";
import { SingleFlight } from "../util/single-flight.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { clientIdFault, readClientMetadata } from "./client-rules.ts";
import { orUnavailable } from "./errors.ts";

/** The result of a fetch. Kept as bytes, because a Response can be read only once. */
type Outcome =
  | { readonly status: number; readonly headers: [string, string][]; readonly body: Uint8Array<ArrayBuffer> }
  | { readonly failure: unknown };

/** Fetches clients' metadata documents and key sets (`jwks_uri`): untrusted URLs in untrusted requests. */
export interface ClientFetches {
  /** oidc-provider's `fetch`: coalesced per URL, cached and limited. */
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>;
  /** Whether this request may need the document at `id`; if not, nothing is fetched. */
  mayFetchDocument(ctx: KoaContextWithOIDC | undefined, id: string): Promise<boolean>;
  /** Whether the URL `id` may be a client_id. */
  mayUseDocument(ctx: KoaContextWithOIDC | undefined, id: string): boolean;
  /** Why the client_id of this request may not be used, if so. */
  documentFault(ctx: object): string | undefined;
  /** Seconds to wait if this request has reached a limit. */
  retryAfter(ctx: object): number | undefined;
}

/** How long an answer is cached, ms; oidc-provider caches valid documents for longer. */
const rememberedMs = 60_000;
/** How long a failure is cached, ms: a publisher who fixes a document waits this long. */
const failureMs = 30_000;
const rememberedBytes = 8 * 1024 * 1024;
/** More than any usable document or key set. */
const maxBytes = 64 * 1024;
/** oidc-provider rejects longer documents (`fetchResponseBodyLimits`). */
const maxDocumentBytes = 5 * 1024;
/** Endpoints that a client calls without a user: only useful to clients that a user has allowed. */
const callerEndpoints = new Set(["token", "revocation", "introspection"]);

export function createClientFetches(
  deps: Pick<AuthorizationServerDeps, "routes" | "store" | "fetch" | "metrics">,
): ClientFetches {
  const { routes, store, metrics } = deps;
  const limits = () => routes().config.limits;
  const remembered = new LRUCache<string, Outcome>({
    maxSize: rememberedBytes,
    sizeCalculation: (outcome, url) => url.length + ("body" in outcome ? outcome.body.length : 0) + 512,
  });
  const flights = new SingleFlight<Outcome>();
  const counts = countPerHour();
  const limited = new WeakMap<object, number>();
  const faults = new WeakMap<object, string>();

  const hasGrant = (clientId: string) =>
    orUnavailable(store.authorizationServerRecords.clientHasGrant(clientId));

  function stop(limit: string, seconds: number): Error {
    metrics.limitsReached.inc({ limit });
    const ctx = Provider.ctx;
    if (ctx) limited.set(ctx.req, seconds);
    return new Error(`limits.${limit} is reached`);
  }

  /** @throws Error when one of the limits is reached. */
  async function enforceLimits(url: string): Promise<void> {
    const ctx = Provider.ctx;
    const clientId = ctx?.oidc?.client?.clientId ?? url;
    // Clients in use are exempt: unknown clients that reach the limits must not block them.
    if (await hasGrant(clientId)) return;
    const { clientFetchesPerHost, clientFetchesPerAddress } = limits();
    const address = ctx && clientAddress(ctx.req, routes().config.envoy.xffNumTrustedHops);
    const byAddress = `address ${address}`;
    if (address && !counts.take(byAddress, clientFetchesPerAddress))
      throw stop("client_fetches_per_address", counts.retryAfter(byAddress));
    const byHost = `host ${new URL(url).host}`;
    if (!counts.take(byHost, clientFetchesPerHost))
      throw stop("client_fetches_per_host", counts.retryAfter(byHost));
  }

  async function load(url: string, init: RequestInit): Promise<Outcome> {
    const response = await deps.fetch(url, init);
    const body = new Uint8Array(await response.arrayBuffer());
    if (body.length > maxBytes) throw new Error(`the answer is longer than ${maxBytes} bytes`);
    const document = response.status === 200 ? clientDocument(url, body) : undefined;
    const read = document ?? body;
    const others = [...response.headers].filter(([name]) => name !== "content-length");
    // oidc-provider rejects a document that is too long by this header, with its reason.
    const headers: [string, string][] = [...others, ["content-length", String(read.length)]];
    return { status: response.status, headers, body: read };
  }

  async function loadOnce(url: string, init: RequestInit): Promise<Outcome> {
    await enforceLimits(url);
    const running = flights.get(url);
    if (running) return running;
    if (flights.size >= limits().clientFetchesAtOnce) throw stop("client_fetches_at_once", 5);
    return flights.run(url, async () => {
      const outcome = await load(url, init).catch((failure: unknown): Outcome => ({ failure }));
      const failed = "failure" in outcome || outcome.status !== 200;
      remembered.set(url, outcome, { ttl: failed ? failureMs : rememberedMs });
      return outcome;
    });
  }

  return {
    async fetch(url, init) {
      const outcome = remembered.get(url) ?? (await (flights.get(url) ?? loadOnce(url, init)));
      if ("failure" in outcome) throw outcome.failure;
      const { status, headers, body } = outcome;
      return new Response([101, 204, 205, 304].includes(status) ? null : body, { status, headers });
    },
    mayUseDocument(ctx, id) {
      const fault = clientIdFault(id, routes().config.authorizationServer);
      if (fault !== undefined && ctx) faults.set(ctx.req, fault);
      return fault === undefined;
    },
    documentFault: (ctx) => faults.get(ctx),
    async mayFetchDocument(ctx, id) {
      // Endpoints have alias paths; oidc-provider identifies them by `route`.
      const route = ctx?.oidc?.route;
      return route === undefined || !callerEndpoints.has(route) || (await hasGrant(id));
    },
    retryAfter: (ctx) => limited.get(ctx),
  };
}

/** A client's metadata document, normalized; undefined if it is not one or is too long. */
function clientDocument(url: string, body: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  if (body.length > maxDocumentBytes) return undefined;
  try {
    const given: unknown = JSON.parse(new TextDecoder().decode(body));
    if (typeof given !== "object" || given === null || !("client_id" in given)) return undefined;
    if (given.client_id !== url) return undefined;
    return new TextEncoder().encode(JSON.stringify(readClientMetadata({ ...given }, "document")));
  } catch {
    return undefined;
  }
}
