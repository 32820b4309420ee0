import { isLoopbackName } from "../egress/addresses.ts";
import { aggregateOf, type Route } from "../model/route.ts";
import type { Config } from "./config.ts";
import { isLoopback, isTcp, plainListeners } from "./listeners.ts";
import type { Reporter } from "./reporter.ts";
import type { ConfigPath } from "./yaml-source.ts";

type ErrorReporter = Pick<Reporter, "error">;

/** Checks where the sidecar calls the members of aggregated routes: through Envoy on this machine, or over TLS. */
export function checkAggregation({ aggregation }: Config, reporter: ErrorReporter): void {
  const { listen, through } = aggregation;
  if (!isTcp(listen) || !isLoopback(listen))
    reporter.error(
      ["aggregation", "listen"],
      `${listen} is not a loopback address: this listener has no TLS`,
      "write 127.0.0.1:PORT; for an Envoy on another machine, set aggregation.through",
    );
  const url = through === undefined ? undefined : new URL(through);
  if (url === undefined) return;
  if (url.origin !== url.href.replace(/\/$/, ""))
    reporter.error(
      ["aggregation", "through"],
      "it must have no path, query or user: the sidecar calls the URLs of the members there",
      `write ${url.origin}`,
    );
  if (url.protocol === "http:" && !isLoopbackName(url.hostname))
    reporter.error(
      ["aggregation", "through"],
      `external tokens would be sent to ${url.host} in clear text`,
      `write https://${url.hostname}:PORT, where Envoy has a certificate for the members' hosts, and its CA in aggregation.ca`,
    );
}

/** Reports aggregated routes whose members the sidecar could not reach: the default is a listener of an Envoy on its own machine. */
export function checkMembersReachable(
  config: Config,
  routes: readonly { readonly route: Route; readonly path: ConfigPath }[],
  reporter: ErrorReporter,
): void {
  if (config.aggregation.through !== undefined) return;
  const { listen, envoy } = config;
  const report = (message: string, fix: string) => {
    // All of them: a route of the database is left out only if it is reported itself.
    for (const { route, path } of routes)
      if (aggregateOf(route) !== undefined) reporter.error([...path, "mcp", "aggregate"], message, fix);
  };
  const remote = [...envoy.sidecar.grpc, ...envoy.sidecar.http].find((one) => !isOnThisMachine(one));
  if (listen.xds !== undefined || remote !== undefined) {
    const why = listen.xds === undefined ? `it calls the sidecar at ${remote}` : "listen.xds is set";
    report(
      `Envoy is on another machine (${why}): the sidecar cannot reach the members of this route at aggregation.listen`,
      "set aggregation.through to the https URL of Envoy as seen from the sidecar (docs/configuration.md#aggregation)",
    );
  }
  const taken: readonly (readonly [key: string, address: string | undefined])[] = [
    ["envoy.listen", envoy.listen],
    ["envoy.admin", envoy.admin],
    ["listen.grpc", listen.grpc],
    ["listen.http", listen.http],
    ["listen.admin", listen.admin],
    ...plainListeners(config).map(({ address }) => ["an http: route", address] as const),
  ];
  const own = config.aggregation.listen;
  const port = own.replace(/.*:/, "");
  const same = taken.find(
    ([, address]) =>
      port !== "0" && (address === own || address === `0.0.0.0:${port}` || address === `[::]:${port}`),
  );
  if (same !== undefined)
    report(
      `aggregation.listen is ${own}, the address of ${same[0]}`,
      "give aggregation.listen a free port of 127.0.0.1",
    );
}

function isOnThisMachine(address: string): boolean {
  return !isTcp(address) || isLoopback(address) || isLoopbackName(address.slice(0, address.lastIndexOf(":")));
}
