import { type EgressProxies, isInternal, proxyFor } from "../egress/proxies.ts";
import type { Reporter } from "./reporter.ts";
import type { ConfigPath } from "./source.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** The routes file overrides the environment, where lower case names take precedence, as in curl. */
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

/** `proxy:3128` is a common notation. */
function withScheme(text: string | undefined): string | undefined {
  return text === undefined || text.includes("://") ? text : `http://${text}`;
}

/**
 * Reports invalid proxies, and servers of the file that cannot be reached through a proxy.
 * @param servers URLs of the file that the gateway calls, with their paths
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
      `calls of the gateway to ${parsed.origin} go through a proxy (egress, HTTPS_PROXY, HTTP_PROXY), which supports https on port 443 only`,
      `add ${parsed.hostname} to egress.no_proxy (NO_PROXY) to reach it directly`,
    );
  }
}

function isDecodable(text: string): boolean {
  try {
    return decodeURIComponent(text) !== undefined;
  } catch {
    return false;
  }
}
