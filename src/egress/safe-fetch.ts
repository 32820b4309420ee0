import { isIP } from "node:net";
import { context, propagation } from "@opentelemetry/api";
import { Agent, ProxyAgent, fetch as undiciFetch } from "undici";
import { inSpan } from "../telemetry/tracing.ts";
import { productVersion } from "../util/product-version.ts";
import { bare, createPrivateHostList, isPublicAddress, type PrivateHostList, portOf } from "./addresses.ts";
import { blocked, createConnector, type Guard, intoHeaders, type ServerVerification } from "./connector.ts";
import { describe, describeProxy, isTimeout, SafeFetchError, unanswered } from "./errors.ts";
import { type EgressProxies, isInternal, proxyFor } from "./proxies.ts";
import { createResolveHost, type ResolveHost, resolveBySystem } from "./resolve-host.ts";

export interface SafeFetchLimits {
  /** From the call to the last byte of the answer, ms. */
  readonly timeoutMs: number;
  /** Largest answer after decompression, bytes. */
  readonly maxResponseBytes: number;
  /** See `createPrivateHostList`; http is allowed for these. */
  readonly allowedPrivateHosts: readonly string[];
  /** Proxies to leave through; absent: none. */
  readonly proxies?: EgressProxies;
}
interface Options {
  /** Read anew for every call, so that a reload of the routes file needs no rewiring. */
  readonly limits: () => SafeFetchLimits;
  /** Default: `resolveBySystem` for names that the operator chose, `createResolveHost` for others. */
  readonly resolveHost?: ResolveHost;
  readonly tls?: ServerVerification;
  /**
   * `discard`: only status and headers are wanted (an event stream would never end). `openFor`: of an answer that it takes, the body is
   * still open, for the caller to bound, in time as well, and to cancel; of others, as `discard`.
   */
  readonly body?: "read" | "discard" | { readonly openFor: (answer: AnswerHead) => boolean };
  /** Of the addresses of a name, the one of the first connection takes all others. Not through a proxy, which chooses for itself. */
  readonly oneAddress?: true;
}
type AnswerHead = Pick<Response, "status" | "headers">;
type Fetch = typeof globalThis.fetch;

/** Product and version, and nothing of the deployment. */
export const userAgent = `envoy-mcp-auth/${productVersion()}`;

const redirects = new Set([301, 302, 303, 307, 308]);
const withoutBody = new Set([101, 204, 205, 304]);
const resolveUntrusted = createResolveHost();

/**
 * A `fetch` for URLs that somebody else chose: https only, no redirects, public addresses only (checked on the
 * address connected to), one time-out for the whole call, a bounded body. `allowedPrivateHosts` opens what it names.
 * The answer's body has been read already.
 *
 * @throws SafeFetchError from the returned function.
 */
export function createSafeFetch(options: Options): Fetch {
  return createFetch(options, {
    refuseUrl(url, list) {
      if (url.protocol === "https:" || list.namesHost(url.hostname, portOf(url))) return undefined;
      if (isIP(bare(url.hostname)) ? list.holdsAddress(bare(url.hostname)) : !list.namesOnly)
        return undefined;
      return new SafeFetchError(
        "insecure_url",
        `refused ${url.protocol}//${url.host}: only https is allowed (allowed_private_hosts opens http for a host)`,
      );
    },
    guard: (list) => (protocol, hostname, port) => {
      if (list.namesHost(hostname, port)) return () => true;
      return (address) => (protocol === "https:" && isPublicAddress(address)) || list.holdsAddress(address);
    },
    isTrusted: (list) => (hostname, port) => list.namesHost(hostname, port),
  });
}

/**
 * A `fetch` for URLs that the operator chose (the sign-in provider, explicit endpoints, a route's own upstream): private
 * addresses are allowed, http to loopback names only unless `anyHttp`; the same limits, and no redirects.
 *
 * @throws SafeFetchError from the returned function.
 */
export function createTrustedFetch(options: Options & { readonly anyHttp?: boolean }): Fetch {
  return createFetch(options, {
    refuseUrl(url, list) {
      if (url.protocol === "https:" || options.anyHttp || list.namesHost(url.hostname, portOf(url))) {
        return undefined;
      }
      if (/^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)) return undefined;
      return new SafeFetchError(
        "insecure_url",
        `refused ${url.protocol}//${url.host}: only https is allowed, or http to this machine`,
      );
    },
    guard: () => () => () => true,
    isTrusted: () => () => true,
  });
}

interface Rules {
  refuseUrl(url: URL, list: PrivateHostList): SafeFetchError | undefined;
  guard(list: PrivateHostList): Guard;
  /** Whether a name is one that the operator chose. */
  isTrusted(list: PrivateHostList): (hostname: string, port: number) => boolean;
}

function createFetch(options: Options, rules: Rules): Fetch {
  let opened:
    | {
        readonly hosts: readonly string[];
        readonly list: PrivateHostList;
        readonly agent: Agent;
        /** By the proxy's URL. */
        readonly proxies: Map<string, ProxyAgent>;
      }
    | undefined;
  // Pooled connections were checked against the list of their time: a changed list gets a new pool.
  function poolFor(hosts: readonly string[]) {
    if (opened && (opened.hosts === hosts || opened.hosts.join() === hosts.join())) return opened;
    for (const old of opened ? [opened.agent, ...opened.proxies.values()] : []) old.close().catch(() => {});
    const list = createPrivateHostList(hosts);
    const isTrusted = rules.isTrusted(list);
    const connect = createConnector(
      rules.guard(list),
      (hostname, port) =>
        options.resolveHost ?? (isTrusted(hostname, port) ? resolveBySystem : resolveUntrusted),
      options.tls ?? {},
      options.oneAddress,
    );
    opened = { hosts, list, agent: new Agent({ connect, pipelining: 1 }), proxies: new Map() };
    return opened;
  }

  /** Who connects: we, or the proxy that this URL leaves through. */
  async function wayTo(
    url: URL,
    { proxies }: SafeFetchLimits,
    pool: ReturnType<typeof poolFor>,
    signal: AbortSignal,
  ) {
    const proxy = proxies && proxyFor(url, proxies);
    if (proxy === undefined) return { dispatcher: pool.agent };
    const port = portOf(url);
    const trusted = rules.isTrusted(pool.list)(url.hostname, port);
    const internal = isInternal(url);
    // What the operator has named, and nobody outside could resolve, was never meant for the proxy.
    if (internal && trusted) return { dispatcher: pool.agent };
    const refusal =
      refuseOfProxy(url, internal) ??
      // What the operator has named may have any address.
      (trusted
        ? undefined
        : await refuseByAddress(
            url,
            rules.guard(pool.list),
            options.resolveHost ?? resolveUntrusted,
            signal,
          ));
    if (refusal) throw refusal;
    let dispatcher = pool.proxies.get(proxy);
    if (!dispatcher) {
      const { authorities, serverName: servername } = options.tls ?? {};
      const requestTls = { servername, secureContext: authorities?.(), allowH2: false };
      dispatcher = new ProxyAgent({ uri: proxy, requestTls, allowH2: false, pipelining: 1 });
      pool.proxies.set(proxy, dispatcher);
    }
    return { dispatcher, proxy: new URL(proxy) };
  }

  return async function safeFetch(input, init) {
    const request = new Request(input, { ...init, redirect: "manual" });
    const url = new URL(request.url);
    const attributes = {
      "http.request.method": request.method,
      "server.address": url.hostname,
      "url.path": url.pathname,
    };
    return inSpan(request.method, attributes, async (span) => {
      if (span) propagation.inject(context.active(), request.headers, intoHeaders);
      const response = await send(request, url);
      span?.setAttribute("http.response.status_code", response.status);
      return response;
    });
  };

  async function send(request: Request, url: URL): Promise<Response> {
    const limits = options.limits();
    if (url.protocol !== "https:" && url.protocol !== "http:") {
      throw new SafeFetchError("bad_url", `refused a ${url.protocol} URL: only https is allowed`);
    }
    const pool = poolFor(limits.allowedPrivateHosts);
    const refusal = rules.refuseUrl(url, pool.list);
    if (refusal) throw refusal;
    const timeout = AbortSignal.timeout(limits.timeoutMs);
    const late = new AbortController();
    const onTimeout = () => late.abort(timeout.reason);
    timeout.addEventListener("abort", onTimeout, { once: true });
    const signal = AbortSignal.any([request.signal, late.signal]);
    const { dispatcher, proxy } = await wayTo(url, limits, pool, signal);
    try {
      const response = await undiciFetch(url, {
        method: request.method,
        headers: [
          // Libraries name themselves: nobody else's business.
          ...[...request.headers].filter(([name]) => name !== "user-agent"),
          ["user-agent", userAgent],
        ],
        body: request.body === null ? null : await request.arrayBuffer(),
        redirect: "manual",
        signal,
        dispatcher,
      });
      if (redirects.has(response.status)) {
        await response.body?.cancel();
        const { status } = response;
        const target = URL.parse(response.headers.get("location") ?? "", url);
        const where = target && target.host !== url.host ? ` to ${target.host || "another place"}` : "";
        throw new SafeFetchError(
          "redirect_not_followed",
          `${url.host} answered with a redirect (${status})${where}, which is not followed`,
          { location: target?.href, status, server: url.host },
        );
      }
      const headers = new Headers([...response.headers]);
      headers.delete("content-encoding");
      headers.delete("content-length");
      let body: Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array<ArrayBuffer>> | null = null;
      const { body: wanted = "read" } = options;
      const { status } = response;
      if (response.body && typeof wanted === "object" && wanted.openFor({ status, headers })) {
        timeout.removeEventListener("abort", onTimeout);
        // The library's own type of the standard's streams and TypeScript's differ in name only.
        const open: unknown = response.body;
        body = open as ReadableStream<Uint8Array<ArrayBuffer>>;
      } else if (wanted !== "read") await response.body?.cancel();
      else if (response.body) body = await readBounded(response.body, limits.maxResponseBytes, url.host);
      return new Response(withoutBody.has(status) ? null : body, { status, headers });
    } catch (error) {
      const described = proxy && !timeout.aborted ? describeProxy(error, url, proxy) : undefined;
      throw described ?? describe(error, url, timeout, limits.timeoutMs);
    }
  }
}

/** Why a URL must not leave through a proxy, whatever its addresses. */
function refuseOfProxy(url: URL, internal: boolean): SafeFetchError | undefined {
  const direct = "NO_PROXY (egress.no_proxy) lets it be reached directly";
  if (internal)
    return new SafeFetchError(
      "blocked_address",
      `refused to ask the proxy for ${url.host}: it is an address, or an internal name; ${direct}`,
    );
  if (url.protocol !== "https:" || portOf(url) !== 443)
    return new SafeFetchError(
      "blocked_address",
      `refused to ask the proxy for ${url.protocol}//${url.host}: only https on port 443 goes through one; ${direct}`,
    );
  return undefined;
}

/**
 * Why a name that somebody else chose must not be asked of a proxy. The address that the proxy connects to is not ours to check, so
 * a name is refused if it could be an internal one. One that does not exist here is the proxy's rules' to judge; as long as nobody
 * has answered, a name may be an internal one.
 * @param signal aborts when the time of the whole call is up, or its caller gives it up
 * @throws what the caller gives as its reason
 */
async function refuseByAddress(
  url: URL,
  guard: Guard,
  resolveHost: ResolveHost,
  signal: AbortSignal,
): Promise<SafeFetchError | undefined> {
  const addresses = await new Promise<readonly { readonly address: string }[] | undefined>((done) => {
    const onAbort = () => done(undefined);
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener("abort", onAbort, { once: true });
    resolveHost(url.hostname, (error, found) => {
      signal.removeEventListener("abort", onAbort);
      if (error === null) done(found);
      else done(unanswered.has(error.code ?? "") ? undefined : []);
    });
  });
  // Not wanted any more says nothing of the name; out of time does.
  if (signal.aborted && !isTimeout(signal.reason)) throw signal.reason;
  if (addresses === undefined)
    return new SafeFetchError(
      "dns_failed",
      `the look-up of ${url.hostname} was not answered in time, so it may be an internal name, which the proxy is not asked for; a name server must answer, if only that there is no such name, or allowed_private_hosts name it`,
    );
  const accepts = guard("https:", url.hostname, 443);
  return addresses.every(({ address }) => accepts(address)) ? undefined : blocked(url.hostname);
}

async function readBounded(
  body: AsyncIterable<Uint8Array>,
  limit: number,
  host: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.byteLength;
    // Leaving the loop cancels the stream.
    if (size > limit) throw new SafeFetchError("too_large", `${host} answered with more than ${limit} bytes`);
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks, size));
}
