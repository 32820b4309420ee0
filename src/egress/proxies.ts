import ipaddr from "ipaddr.js";
import { isLoopbackName } from "./addresses.ts";

/** HTTP proxies for outbound calls (`egress`, or `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`). */
export interface EgressProxies {
  /** For https URLs: `http://host:port`, with user info if the proxy requires credentials. */
  readonly https?: string;
  /** For http URLs. */
  readonly http?: string;
  /** Hosts that are reached directly. */
  readonly noProxy: readonly string[];
}

/**
 * The same for libraries that use Node's `proxyEnv`; undefined: no proxy for https. In Node, an entry covers subdomains only with a
 * leading dot, and CIDR blocks are not supported.
 */
export function proxyEnvironment({
  https,
  noProxy,
}: EgressProxies): { readonly HTTPS_PROXY: string; readonly NO_PROXY: string } | undefined {
  if (https === undefined) return undefined;
  const entries = noProxy.map((entry) => entry.trim().toLowerCase().replace(/:443$/, ""));
  const below = entries.filter((entry) => !/^[.*]/.test(entry)).map((entry) => `.${entry}`);
  return { HTTPS_PROXY: https, NO_PROXY: [...entries, ...below].join(",") };
}

/**
 * The proxy for a URL; undefined: none is set for its scheme, or the URL is called directly. Loopback is never called through a proxy.
 * `NO_PROXY` supports host names (including subdomains), `.suffix`, `*.suffix`, addresses, CIDR blocks, each with or without a port, and `*`.
 */
export function proxyFor(url: URL, { https, http, noProxy }: EgressProxies): string | undefined {
  const proxy = url.protocol === "https:" ? https : http;
  if (proxy === undefined) return undefined;
  const host = hostOf(url);
  if (isLoopbackName(host) || isLoopbackAddress(host)) return undefined;
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  return noProxy.some((entry) => covers(entry.trim().toLowerCase(), host, port)) ? undefined : proxy;
}

/**
 * Whether a URL's host is an address, or a name that only internal name servers resolve: single labels, Kubernetes services, and
 * suffixes that are reserved or customary for private networks.
 */
export function isInternal(url: URL): boolean {
  const host = hostOf(url);
  if (ipaddr.isValid(host) || !host.includes(".")) return true;
  return /\.(?:local|internal|svc|localdomain|localhost|lan|intranet|private|corp|home|home\.arpa)$/.test(
    host,
  );
}

/** A URL's host without brackets and trailing dots, of which some resolvers accept several. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.+$/, "");
}

function isLoopbackAddress(host: string): boolean {
  return ipaddr.isValid(host) && ipaddr.process(host).range() === "loopback";
}

function covers(entry: string, host: string, port: string): boolean {
  if (ipaddr.isValidCIDR(entry)) {
    if (!ipaddr.isValid(host)) return false;
    const [block, bits] = ipaddr.parseCIDR(entry);
    const address = ipaddr.process(host);
    return block.kind() === address.kind() && address.match([block, bits] as never);
  }
  const match = ipaddr.isValid(entry) ? [entry, entry] : /^(.+?)(?::(\d+))?$/.exec(entry);
  const [, named = "", onPort] = match ?? [];
  if (named === "" || (onPort !== undefined && onPort !== port)) return false;
  if (named === "*") return true;
  const bare = named.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
  if (ipaddr.isValid(bare)) return ipaddr.isValid(host) && same(bare, host);
  const suffix = bare.replace(/^\*?\./, "");
  return host.endsWith(`.${suffix}`) || (!bare.startsWith("*") && host === suffix);
}

function same(one: string, other: string): boolean {
  return ipaddr.process(one).toString() === ipaddr.process(other).toString();
}
