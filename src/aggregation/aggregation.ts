import type { Context, Middleware } from "koa";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Caller } from "../external-tokens/external-tokens.ts";
import type { Route } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";
import type { AggregateSessions } from "../store/aggregate-sessions.ts";
import type { Notifications } from "../store/notifications/notifications.ts";
import type { People } from "../store/people.ts";
import type { ReplicaMessages } from "../store/replica-messages.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";

/** A request to an aggregated route that a check has allowed. */
export interface AggregateCall {
  /** The aggregated route. */
  readonly route: Route;
  /** With a grant: the members' external tokens end with it. */
  readonly caller: Caller & { readonly grantId: string };
  /** The address of the client, for the policies of members. */
  readonly sourceIp?: string;
  readonly requestId: string;
  /** The request's trace context headers (W3C), for calls of members. */
  readonly trace?: Readonly<Record<string, string>>;
}

/** The fetch for one member: through Envoy, with an external token of the caller that is valid at that member only. */
export type MemberFetch = (call: AggregateCall, member: Route) => typeof globalThis.fetch;

/** Dependencies of the aggregated endpoints. */
export interface AggregationDeps {
  readonly routes: CurrentRoutes;
  /** Calls back after the routes or another part of the configuration have changed. Returns an unsubscribe function. */
  readonly onRoutesChanged: (listener: () => void) => () => void;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** The call that the check of this request has allowed and signed; undefined if there is none: the request must be denied. */
  readonly callOf: (ctx: Context) => Promise<AggregateCall | undefined>;
  readonly memberFetch: MemberFetch;
  /** The URL of a member's MCP endpoint; default: the one that listings show. */
  readonly memberUrl?: (member: Route) => Promise<URL> | URL;
  readonly sessions: AggregateSessions;
  readonly messages: ReplicaMessages;
  /** The ids of the members that the person has allowed for a grant. */
  readonly grantedMembers: (grantId: string) => Promise<ReadonlySet<string>> | ReadonlySet<string>;
  /** The facts of people for policy, as they are now. */
  readonly people: Pick<People, "find">;
  /** Says when grants and people change. */
  readonly notifications: Pick<Notifications, "subscribe">;
  /** Whether policy allows the person to reach a route at all. */
  readonly mayReach: (person: Subject, route: Route) => boolean;
  /** The URL of a page on which the person connects a route for a client. @throws (rejects) TooManyConsentLinks */
  readonly createConsentLink: (wanted: {
    readonly userId: string;
    readonly route: Route;
    readonly clientId: string;
    readonly grantId?: string;
    readonly aggregate?: Route;
  }) => Promise<string>;
}

/** The MCP endpoints of aggregated routes. */
export interface Aggregation {
  /** Answers requests for aggregated routes; passes all others on. */
  readonly middleware: Middleware;
  /** Ends open streams, so that clients open them at another replica. */
  drain(): void;
  close(): Promise<void>;
}
