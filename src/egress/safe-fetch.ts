import { isIP } from "node:net";
import { Agent, ProxyAgent, fetch as undiciFetch } from "undici";
import { productVersion } from "../util/package.ts";
import {
  createPrivateHostList,
  createResolveHost,
  isPublicAddress,
  type PrivateHostList,
  portOf,
  type ResolveHost,
  resolveBySystem,
  withoutBrackets,
} from "./addresses.ts";
import { blocked, createConnector, type Guard, inRequestSpan, type ServerVerification } from "./connector.ts";
import { describe, describeProxy, isTimeout, SafeFetchError, unanswered } from "./errors.ts";
import { type EgressProxies, isInternal, proxyFor } from "./proxies.ts";

export interface SafeFetchLimits {
  /** From the call to the last byte of the response, ms. */
  readonly timeoutMs: number;
  /** Largest response after decompression, bytes. */
  readonly maxResponseBytes: number;
  /** See `createPrivateHostList`; http is allowed for these. */
  readonly allowedPrivateHosts: readonly string[];
  /** Outbound proxies; absent: none. */
  readonly proxies?: EgressProxies;
}
interface Options {
  /** Read on every call, so a reload of the routes file takes effect. */
  readonly limits: () => SafeFetchLimits;
  /** Default: `resolveBySystem` for names that the operator chose, `createResolveHost` for others. */
  readonly resolveHost?: ResolveHost;
  readonly tls?: ServerVerification;
  /**
   * `discard`: only status and headers are returned (an event stream would never end). `openFor`: if it accepts the response, the body
   * is still open, and the caller must limit its size and time and cancel it; otherwise as `discard`.
   */
  readonly body?: "read" | "discard" | { readonly openFor: (answer: AnswerHead) => boolean };
  /** All connections use the address of the first one. Not through a proxy, which chooses the address itself. */
  readonly oneAddress?: true;
}
type AnswerHead = Pick<Response, "status" | "headers">;
type Fetch = typeof globalThis.fetch;

/** Product and version, without details of the deployment. */
export const userAgent = `envoy-mcp-auth/${productVersion()}`;

const redirects = new Set([301, 302, 303, 307, 308]);
const withoutBody = new Set([101, 204, 205, 304]);
const resolveUntrusted = createResolveHost();

/**
 * A `fetch` for untrusted URLs: https only, no redirects, public addresses only (checked on the connected address), one timeout for
 * the whole call, a limited body. `allowedPrivateHosts` are exempt. The response body is already read.
 *
 * @throws SafeFetchError from the returned function.
 */
export function createSafeFetch(options: Options): Fetch {
  return createFetch(options, {
    rejectUrl(url, list) {
      if (url.protocol === "https:" || list.namesHost(url.hostname, portOf(url))) return undefined;
      if (
        isIP(withoutBrackets(url.hostname))
          ? list.holdsAddress(withoutBrackets(url.hostname))
          : !list.namesOnly
      )
        return undefined;
      return new SafeFetchError(
        "insecure_url",
        `blocked ${url.protocol}//${url.host}: only https is allowed (allowed_private_hosts allows http for a host)`,
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
 * A `fetch` for trusted URLs of the operator (the sign-in provider, explicit endpoints, a route's upstream): private addresses are
 * allowed, http to loopback names only unless `anyHttp`; the same limits, and no redirects.
 *
 * @throws SafeFetchError from the returned function.
 */
export function createTrustedFetch(options: Options & { readonly anyHttp?: boolean }): Fetch {
  return createFetch(options, {
    rejectUrl(url, list) {
      if (url.protocol === "https:" || options.anyHttp || list.namesHost(url.hostname, portOf(url))) {
        return undefined;
      }
      if (/^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)) return undefined;
      return new SafeFetchError(
        "insecure_url",
        `blocked ${url.protocol}//${url.host}: only https is allowed, or http to this machine`,
      );
    },
    guard: () => () => () => true,
    isTrusted: () => () => true,
  });
}

interface Rules {
  rejectUrl(url: URL, list: PrivateHostList): SafeFetchError | undefined;
  guard(list: PrivateHostList): Guard;
  /** Whether the operator chose the name. */
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
  // Pooled connections were checked against the previous list: a changed list gets a new pool.
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

  /** Chooses the direct connection or the proxy for this URL. */
  async function chooseDispatcher(
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
    // Internal names that the operator configured are not meant for the proxy.
    if (internal && trusted) return { dispatcher: pool.agent };
    const rejection =
      rejectForProxy(url, internal) ??
      // Hosts that the operator configured may have any address.
      (trusted
        ? undefined
        : await rejectByAddress(
            url,
            rules.guard(pool.list),
            options.resolveHost ?? resolveUntrusted,
            signal,
          ));
    if (rejection) throw rejection;
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
    return inRequestSpan({ method: request.method, url, headers: request.headers }, () => send(request, url));
  };

  async function send(request: Request, url: URL): Promise<Response> {
    const limits = options.limits();
    if (url.protocol !== "https:" && url.protocol !== "http:") {
      throw new SafeFetchError("bad_url", `blocked a ${url.protocol} URL: only https is allowed`);
    }
    const pool = poolFor(limits.allowedPrivateHosts);
    const rejection = rules.rejectUrl(url, pool.list);
    if (rejection) throw rejection;
    const timeout = AbortSignal.timeout(limits.timeoutMs);
    const late = new AbortController();
    const onTimeout = () => late.abort(timeout.reason);
    timeout.addEventListener("abort", onTimeout, { once: true });
    const signal = AbortSignal.any([request.signal, late.signal]);
    const { dispatcher, proxy } = await chooseDispatcher(url, limits, pool, signal);
    try {
      const response = await undiciFetch(url, {
        method: request.method,
        headers: [
          // Libraries would identify themselves.
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
        const where = target && target.host !== url.host ? ` to ${target.host || "another URL"}` : "";
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
        // undici's and TypeScript's types of the same standard stream differ.
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

/** Why a URL must not be called through a proxy, whatever its addresses. */
function rejectForProxy(url: URL, internal: boolean): SafeFetchError | undefined {
  const direct = "NO_PROXY (egress.no_proxy) allows a direct connection";
  if (internal)
    return new SafeFetchError(
      "blocked_address",
      `${url.host} was not sent to the proxy: it is an address, or an internal name; ${direct}`,
    );
  if (url.protocol !== "https:" || portOf(url) !== 443)
    return new SafeFetchError(
      "blocked_address",
      `${url.protocol}//${url.host} was not sent to the proxy: only https on port 443 is sent through a proxy; ${direct}`,
    );
  return undefined;
}

/**
 * Why an untrusted name must not be passed to a proxy. The gateway cannot check the address that the proxy connects to, so a name is
 * blocked if it could be internal: if it has a private address, or if no name server answered. A name that does not exist is left to
 * the rules of the proxy.
 * @param signal aborts at the timeout of the whole call, or when the caller aborts it
 * @throws the reason of the caller's abort
 */
async function rejectByAddress(
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
  // An abort by the caller says nothing about the name; a timeout does.
  if (signal.aborted && !isTimeout(signal.reason)) throw signal.reason;
  if (addresses === undefined)
    return new SafeFetchError(
      "dns_failed",
      `the lookup of ${url.hostname} timed out, so it may be an internal name, which is not sent to the proxy; a name server must answer (also that the name does not exist), or allowed_private_hosts must list the name`,
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
