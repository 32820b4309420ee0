import { readFileSync } from "node:fs";
import { isIP, type LookupFunction, type Socket } from "node:net";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { context, propagation } from "@opentelemetry/api";
import { buildConnector } from "undici";
import { inSpan } from "../telemetry/tracing.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { type ResolveHost, withoutBrackets } from "./addresses.ts";
import { SafeFetchError } from "./errors.ts";

export type Guard = (protocol: string, hostname: string, port: number) => (address: string) => boolean;

/** How https servers are verified, if Node's CAs or the host of the URL do not apply. */
export interface ServerVerification {
  /** Called at the first connection to a host. */
  readonly authorities?: () => SecureContext | undefined;
  /** Name that the certificate must have, and SNI, instead of the URL's host. */
  readonly serverName?: string;
}

const intoHeaders = {
  set: (headers: Headers, name: string, value: string) => headers.set(name, value),
};

/** Sends an outgoing request in a span of its own, whose context its headers pass on. */
export function inRequestSpan(
  { method, url, headers }: { readonly method: string; readonly url: URL; readonly headers: Headers },
  send: () => Promise<Response>,
): Promise<Response> {
  const attributes = {
    "http.request.method": method,
    "server.address": url.hostname,
    "url.path": url.pathname,
  };
  return inSpan(method, attributes, async (span) => {
    if (span) propagation.inject(context.active(), headers, intoHeaders);
    const response = await send();
    span?.setAttribute("http.response.status_code", response.status);
    return response;
  });
}

/** Connects only to addresses that the guard accepts. The checked address is the one used, which prevents DNS rebinding. */
export function createConnector(
  guard: Guard,
  resolverFor: (hostname: string, port: number) => ResolveHost,
  { authorities, serverName }: ServerVerification,
  oneAddress = false,
): buildConnector.connector {
  const connectors = new Map<string, buildConnector.connector>();
  /** By origin, if all connections must use one address. */
  const kept = new Map<string, string>();
  return (target, callback) => {
    const { protocol, hostname } = target;
    const port = Number(target.port) || (protocol === "https:" ? 443 : 80);
    const accepts = guard(protocol, hostname, port);
    if (isIP(withoutBrackets(hostname)) && !accepts(withoutBrackets(hostname))) {
      callback(blocked(hostname), null);
      return;
    }
    const origin = `${protocol}//${hostname}:${port}`;
    let connect = connectors.get(origin);
    if (!connect) {
      if (connectors.size >= 1000) connectors.clear();
      const resolveHost = resolverFor(hostname, port);
      const resolveOnce: ResolveHost = (name, done) => {
        const address = kept.get(origin);
        if (address === undefined) resolveHost(name, done);
        else done(null, [{ address, family: isIP(address) }]);
      };
      connect = buildConnector({
        lookup: guardedLookup(accepts, resolveOnce),
        allowH2: false,
        ...(protocol === "https:" && { servername: serverName, secureContext: authorities?.() }),
      });
      connectors.set(origin, connect);
    }
    connect(target, (...result) => {
      const socket: Socket | null = result[1];
      if (socket?.remoteAddress && !accepts(socket.remoteAddress)) {
        socket.destroy();
        callback(blocked(hostname), null);
        return;
      }
      if (oneAddress && socket?.remoteAddress) kept.set(origin, socket.remoteAddress);
      callback(...result);
    });
  };
}

function guardedLookup(accepts: (address: string) => boolean, resolveHost: ResolveHost): LookupFunction {
  return (hostname, lookupOptions, done) => {
    resolveHost(hostname, (error, addresses) => {
      const usable = addresses?.filter(({ address }) => accepts(address)) ?? [];
      const [first] = usable;
      if (error || !first) done(error ?? blocked(hostname), "", 0);
      else if (lookupOptions.all) done(null, usable);
      else done(null, first.address, first.family);
    });
  };
}

export function blocked(hostname: string): SafeFetchError {
  return new SafeFetchError(
    "blocked_address",
    `blocked the connection to ${hostname}: its address is not public (allowed_private_hosts allows it)`,
  );
}

/** By PEM file: Node's CAs and those of the file. Undefined if the file cannot be read, since it may exist for Envoy only. */
export type TrustedAuthorities = (caFile: string) => SecureContext | undefined;

/** Each file is read once: a context takes tens of milliseconds, and megabytes. */
export function createTrustedAuthorities(): TrustedAuthorities {
  const contexts = boundedCache<string, SecureContext>(100);
  return (caFile) => {
    const known = contexts.get(caFile);
    if (known) return known;
    try {
      const ca = [...getCACertificates("default"), readFileSync(caFile, "utf8")];
      const context = createSecureContext({ ca });
      contexts.set(caFile, context);
      return context;
    } catch {
      return undefined;
    }
  };
}

/** The CA bundle of Linux distributions; default of `envoy.upstream_ca`. */
export const systemAuthorities = "/etc/ssl/certs/ca-certificates.crt";
