import { LRUCache } from "lru-cache";
import Provider, { type KoaContextWithOIDC } from "oidc-provider";
import { clientAddress } from "../server/http/request.ts";
import { countPerHour } from "../util/hourly-counts.ts";
import { SingleFlight } from "../util/single-flight.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { clientIdFault, readClientMetadata } from "./clients.ts";
import { orUnavailable } from "./errors.ts";

/** What was fetched, or why it could not be; kept as bytes, since a Response is read once. */
type Outcome =
  | { readonly status: number; readonly headers: [string, string][]; readonly body: Uint8Array<ArrayBuffer> }
  | { readonly failure: unknown };

/** Fetching what clients' metadata documents and `jwks_uri` point to: URLs of strangers', asked for by strangers. */
export interface ClientFetches {
  /** oidc-provider's `fetch`: joined per URL, its outcome remembered, within the limits. */
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>;
  /** Whether the document at `id` may matter to this request; else nothing is fetched. */
  mayFetchDocument(ctx: KoaContextWithOIDC | undefined, id: string): Promise<boolean>;
  /** Whether a client may be known by the document at `id`. */
  mayUseDocument(ctx: KoaContextWithOIDC | undefined, id: string): boolean;
  /** Why the document that this request's client is known by may not be used; undefined: it may. */
  documentFault(ctx: object): string | undefined;
  /** Seconds to wait for whom a limit stopped, in this request; undefined: none did. */
  retryAfter(ctx: object): number | undefined;
}

/** An answer is asked for again after this, ms; oidc-provider keeps those it likes for longer. */
const rememberedMs = 60_000;
/** A failure is not tried again before this, ms: whoever publishes a document and mends it waits that long. */
const failureMs = 30_000;
const rememberedBytes = 8 * 1024 * 1024;
/** Longer than any document or key set that oidc-provider or a client has use for. */
const longestBytes = 64 * 1024;
/** Longer documents are refused (`fetchResponseBodyLimits`), however many of their bytes mean nothing. */
const longestDocument = 5 * 1024;
/** Endpoints that name a client in a posted form, without a person: of use only where somebody has allowed the client. */
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
  async function takePart(url: string): Promise<void> {
    const ctx = Provider.ctx;
    const clientId = ctx?.oidc?.client?.clientId ?? url;
    // Clients in use are few, and each is asked for once a minute: what strangers use up must not stop them.
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
    if (body.length > longestBytes) throw new Error(`the answer is longer than ${longestBytes} bytes`);
    const document = response.status === 200 ? clientDocument(url, body) : undefined;
    const read = document ?? body;
    const others = [...response.headers].filter(([name]) => name !== "content-length");
    // By its length oidc-provider refuses what is too long before it reads on, and can say why.
    const headers: [string, string][] = [...others, ["content-length", String(read.length)]];
    return { status: response.status, headers, body: read };
  }

  async function loadOnce(url: string, init: RequestInit): Promise<Outcome> {
    await takePart(url);
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
      // Known to oidc-provider under `route`, not under its path, which has an alias.
      const route = ctx?.oidc?.route;
      return route === undefined || !callerEndpoints.has(route) || (await hasGrant(id));
    },
    retryAfter: (ctx) => limited.get(ctx),
  };
}

/** A client's metadata document as it is meant; undefined: it is none, or too long for one. */
function clientDocument(url: string, body: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  if (body.length > longestDocument) return undefined;
  try {
    const given: unknown = JSON.parse(new TextDecoder().decode(body));
    if (typeof given !== "object" || given === null || !("client_id" in given)) return undefined;
    if (given.client_id !== url) return undefined;
    return new TextEncoder().encode(JSON.stringify(readClientMetadata({ ...given }, "document")));
  } catch {
    return undefined;
  }
}
