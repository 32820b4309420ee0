import type { Route } from "../model/route.ts";

/** Why a stored route cannot be used: its entry cannot be decrypted, it is invalid, or its row was not written by the gateway. */
export const unusableReasons = ["route_unreadable", "route_invalid", "route_row_rejected"] as const;
export type UnusableReason = (typeof unusableReasons)[number];

/** For callers, who can do nothing about it; the log and the admin API tell the administrator more. */
export const unusableMessages: Readonly<Record<UnusableReason, string>> = {
  route_unreadable:
    "the gateway cannot read the settings of this server; its administrator has to restore the encryption key, or create the route again",
  route_invalid: "the gateway cannot use the settings of this server; its administrator has to correct them",
  route_row_rejected:
    "the settings of this server were not written by the gateway; its administrator has to create the route again",
};

/** When a caller of a route that cannot be used should come back, seconds. */
export const unusableRetrySeconds = 60;

/**
 * A stored route that cannot be used. It still exists: no other route answers in its place, and its connections are kept until it can
 * be used again, or is deleted.
 */
export interface ReservedRoute {
  readonly id: string;
  readonly reason: UnusableReason;
  /** Absent if it is not known, or if a route in force has it. */
  readonly at?: { readonly host: string; readonly prefix: string };
  /** Absent if its entry cannot be read. */
  readonly kind?: Route["mcp"]["kind"];
  /** Whether its entry accepts MCP routes on the same host, if it is an application. */
  readonly sharesHost?: boolean;
  /** False if its entry says so. */
  readonly enabled: boolean;
  /** Whether it requires upstream consent, or may do so, because its entry cannot be read. */
  readonly needsConsent: boolean;
  /** Absent if its entry cannot be parsed. */
  readonly route?: Route;
}

interface Reserved {
  readonly reserved: readonly ReservedRoute[];
}

/** The host and path prefix of a stored row; undefined if it has another form. */
export function parsePlace(place: string): ReservedRoute["at"] {
  const end = place.indexOf("/");
  return end < 1 ? undefined : { host: place.slice(0, end), prefix: place.slice(end) };
}

/** Whether a name in a route (an id, or a URL as in `from`) is that of a reserved route that can be an MCP server. */
export function namesReserved({ reserved }: Reserved, name: string): boolean {
  const url = URL.parse(name);
  const place = url === null ? undefined : url.host + (url.pathname.replace(/\/$/, "") || "/");
  return reserved.some(
    ({ id, at, kind }) =>
      kind !== "client" && (id === name || (at !== undefined && at.host + at.prefix === place)),
  );
}

/** The reserved routes that may be an MCP server, of a host, or without one of the gateway. */
export function reservedServers({ reserved }: Reserved, host?: string): readonly ReservedRoute[] {
  return reserved.filter(
    ({ at, kind, enabled }) =>
      at !== undefined && (host === undefined || at.host === host) && kind !== "client" && enabled,
  );
}

/** The hosts of reserved routes that require upstream consent, or may do so. */
export function reservedOAuthHosts({ reserved }: Reserved): readonly string[] {
  return reserved.flatMap(({ at, needsConsent }) => (at !== undefined && needsConsent ? [at.host] : []));
}
