import ipaddr from "ipaddr.js";
import type { ConfigPath } from "./config-source.ts";
import { isLoopbackName } from "./is-loopback-name.ts";
import type { Reporter } from "./reporter.ts";

/** HTTP proxies through which our own outbound calls leave (`egress`, or `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`). */
export interface EgressProxies {
  /** For https URLs: `http://host:port`, with user info where the proxy wants credentials. */
  readonly https?: string;
  /** For http URLs. */
  readonly http?: string;
  /** Hosts that are reached directly. */
  readonly noProxy: readonly string[];
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The routes file wins over the environment, in which lower case wins, as with curl. */
export function readEgressProxies(
  file: {
    readonly https_proxy?: string | undefined;
    readonly http_proxy?: string | undefined;
    readonly no_proxy?: readonly string[] | undefined;
  },
  env: Environment,
): EgressProxies {
  const of = (name: string) => env[name.toLowerCase()] || env[name] || undefined;
  return {
    https: withScheme(file.https_proxy ?? of("HTTPS_PROXY")),
    http: withScheme(file.http_proxy ?? of("HTTP_PROXY")),
    noProxy:
      file.no_proxy ??
      of("NO_PROXY")
        ?.split(/[,\s]+/)
        .filter(Boolean) ??
      [],
  };
}

/**
 * The same for libraries that take what Node's `proxyEnv` takes; undefined: no proxy for https. Node covers what is below a name only
 * where a dot says so, and knows no CIDR blocks.
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

/** `proxy:3128` is what many write. */
function withScheme(text: string | undefined): string | undefined {
  return text === undefined || text.includes("://") ? text : `http://${text}`;
}

/**
 * Says so where a proxy cannot be used as one, and where a server of the file cannot be reached through it.
 * @param servers URLs of the file that we call, with their place in it
 */
export function checkEgressProxies(
  proxies: EgressProxies,
  servers: readonly { readonly url: string; readonly path: ConfigPath }[],
  reporter: Reporter,
): void {
  const { https, http } = proxies;
  for (const [key, value] of [
    ["https_proxy", https],
    ["http_proxy", http],
  ] as const) {
    const url = value === undefined ? undefined : URL.parse(value);
    if (url === undefined) continue;
    if (url && /^https?:$/.test(url.protocol) && url.hostname !== "") {
      if (!isDecodable(url.username + url.password))
        reporter.error(
          ["egress", key],
          `user and password of the proxy (${key}, or ${key.toUpperCase()} in the environment) are not percent-encoded`,
          "write %25 for a percent sign",
        );
      continue;
    }
    reporter.error(
      ["egress", key],
      `the proxy (${key}, or ${key.toUpperCase()} in the environment) is not an http or https URL`,
      "write http://host:port; SOCKS is not supported",
    );
  }
  for (const { url, path } of servers) {
    const parsed = URL.parse(url);
    if (!parsed || isInternal(parsed) || proxyFor(parsed, proxies) === undefined) continue;
    if (parsed.protocol === "https:" && parsed.port === "") continue;
    reporter.warn(
      path,
      `our own calls to ${parsed.origin} leave through a proxy (egress, HTTPS_PROXY, HTTP_PROXY), which takes https on port 443 only`,
      `add ${parsed.hostname} to egress.no_proxy (NO_PROXY) to reach it directly`,
    );
  }
}

/**
 * The proxy for a URL; undefined: none is set for its scheme, or it is reached directly. This machine never is reached through one.
 * `NO_PROXY` takes host names (with all below them), `.suffix`, `*.suffix`, addresses, CIDR blocks, each with or without a port, and `*`.
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
 * Whether a URL's host is an address, or a name that only internal name servers know: single labels, Kubernetes services, and what is
 * reserved or customary for private networks.
 */
export function isInternal(url: URL): boolean {
  const host = hostOf(url);
  if (ipaddr.isValid(host) || !host.includes(".")) return true;
  return /\.(?:local|internal|svc|localdomain|localhost|lan|intranet|private|corp|home|home\.arpa)$/.test(
    host,
  );
}

function isDecodable(text: string): boolean {
  try {
    return decodeURIComponent(text) !== undefined;
  } catch {
    return false;
  }
}

/** A URL's host without brackets and the root's dot, of which some take more than one. */
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
