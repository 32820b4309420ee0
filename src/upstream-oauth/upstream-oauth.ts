import type { JSONWebKeySet } from "jose";
import type { CurrentRoutes, RouteTable } from "../config/route-table.ts";
import type { ResolveHost } from "../egress/resolve-host.ts";
import type { Route } from "../model/route.ts";
import type { SignInSession } from "../store/sign-in-sessions.ts";
import type { Store } from "../store/store.ts";
import type { NewUpstreamToken, UpstreamToken } from "../store/upstream-tokens.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { ClientKeys } from "./client-authentication.ts";
import type { FailureCode, UpstreamFailure } from "./failures.ts";

/** Whose browser leaves, for which route, and where it comes back to. */
export interface BeginConsent {
  readonly userId: string;
  readonly route: Route;
  /** Where the browser goes when all is done; checked by the caller. */
  readonly returnTo: string;
  /** The last page tells its opener and closes. */
  readonly popup?: boolean;
  /** What a page of ours has shown this person, who goes on. */
  readonly shown?: Pick<ConsentNotice, "server" | "scopes">;
}
/** With `notice` (`notice_needed`): to be shown to the person before they may leave. */
export type Begun =
  | { readonly ok: true; readonly location: string; readonly state: string }
  | (UpstreamFailure & { readonly notice?: ConsentNotice });

/** Where a person is about to be sent, and what for. */
export interface ConsentNotice {
  /** Host of the authorization server's page. */
  readonly server: string;
  /** It is not of the upstream's site. */
  readonly foreign: boolean;
  readonly scopes: readonly string[];
  /** Those of them that go beyond what this server usually asks for, and what the person has granted it. */
  readonly added: readonly string[];
}

export interface FinishConsent {
  /** The callback's query. */
  readonly params: URLSearchParams;
  /** The callback's own URL, without its query. */
  readonly callback: string;
  /** The callback's host, as in `Route.host`. */
  readonly host: string;
  /** Who is signed in in this browser now. */
  readonly userId: string;
  /** Value of the cookie that was set for this `state` as the browser left. */
  readonly browserState: string | undefined;
}
export type Finished =
  | {
      readonly ok: true;
      readonly routeId: string;
      readonly returnTo: string;
      readonly popup: boolean;
      /** Not done yet: the browser has to leave once more, with this state, for our client there is a new one now. */
      readonly again?: { readonly location: string; readonly state: string };
    }
  | (UpstreamFailure & { readonly routeId?: string; readonly returnTo?: string; readonly popup?: boolean });

export type RefreshOutcome =
  | { readonly kind: "refreshed"; readonly token: NewUpstreamToken }
  /** For good: this token will never be refreshed. `reason` is the server's error code, if it is a known one, or a word of ours. */
  | { readonly kind: "rejected"; readonly reason: string }
  | {
      readonly kind: "unavailable";
      readonly retryAfterSeconds: number;
      readonly reason: string;
      /** The server refused (4xx), and did not say why: it may be about this token, or about everybody's. */
      readonly unexplained?: true;
    };

/** What a grant without consent needs of the caller. */
export interface TokenSubject {
  readonly userId: string;
  /** The caller's TE, for `token_exchange` with `subject_token: external_token`. */
  readonly externalToken?: string;
}
export type NonInteractiveOutcome =
  | { readonly kind: "obtained"; readonly token: NewUpstreamToken }
  | { readonly kind: "rejected"; readonly reason: string }
  | { readonly kind: "unavailable"; readonly retryAfterSeconds: number; readonly reason: string };

/** One step of a discovery, for `doctor`. */
export interface DiscoveryStep {
  readonly name:
    | "upstream"
    | "initialize"
    | "resource_metadata"
    | "server_metadata"
    | "default_endpoints"
    | "capabilities"
    | "client"
    | "token_endpoint"
    | "result";
  readonly url?: string;
  /** HTTP status, where there was an answer. */
  readonly status?: number;
  readonly ok: boolean;
  readonly finding: string;
  /** A legacy HTTP+SSE server has opened its stream without a token. */
  readonly opensStream?: true;
  /** What an operator should know of it although nothing is wrong, or may become so. */
  readonly note?: string;
}
/** What a discovery found, without secrets. */
export type DiscoveryResult =
  | {
      readonly ok: true;
      /** False: the upstream answers without credentials and publishes no metadata. */
      readonly needed: boolean;
      readonly issuer?: string;
      readonly scopes: readonly string[];
    }
  | UpstreamFailure;

/** We as OAuth client of upstreams' authorization servers. */
export interface UpstreamOAuth {
  /** Finds the server, registers where needed, remembers the trip. The caller sets the state cookie and redirects. */
  begin(consent: BeginConsent): Promise<Begun>;
  /** Where a consent would lead now, for a page that says so beforehand; undefined where that cannot be told. Never throws. */
  notice(userId: string, route: Route): Promise<ConsentNotice | undefined>;
  /** Checks browser, person and issuer, redeems the code, stores the TI. Single use. */
  finish(callback: FinishConsent): Promise<Finished>;
  /** One HTTP call; storing and leasing are the caller's. */
  refresh(token: UpstreamToken, route: Route): Promise<RefreshOutcome>;
  /** A TI without consent: `token_exchange`, `client_credentials`, `id_jag`. */
  grant(route: Route, subject: TokenSubject): Promise<NonInteractiveOutcome>;
  /** RFC 7009, refresh token first; false when the server offers none or refused. Never throws. */
  revoke(token: UpstreamToken, route: Route): Promise<boolean>;
  /** Whether an auto-discovered upstream asks for OAuth at all. Cached; at once when known. */
  needed(route: Route): boolean | Promise<boolean>;
  /** Why no call gets anywhere, where the latest answer to `needed` has shown it: it redirects elsewhere. */
  fault(route: Route): FailureCode | undefined;
  /** Path below the route's `from` of its MCP endpoint, as far as it is known or can be found; "" for `from` itself. Never throws. */
  endpointPath(route: Route): Promise<string>;
  /** An upstream that seemed open has answered 401: `needed` is true from now on. */
  noteNeeded(route: Route): void;
  /** Our Client ID Metadata Document on this host, for this callback; undefined where no such route is auto-discovered (404). */
  clientMetadataDocument(
    host: string,
    wanted?: { readonly id?: string; readonly confidential?: boolean },
  ): Record<string, unknown> | undefined;
  /** Public halves of the keys that we sign with as a client (`private_key_jwt`). */
  clientJwks(): JSONWebKeySet;
  /** Runs discovery without a cache, reporting each step; registers nothing. */
  discover(route: Route, onStep: (step: DiscoveryStep) => void): Promise<DiscoveryResult>;
  /** Discovers and registers for a route that is not served yet. `table` is the one it would be part of. */
  prepare(route: Route, table: RouteTable): Promise<DiscoveryResult>;
  /** Trusts neither the upstream's metadata nor our registration any longer: it rejects tokens, or has pointed elsewhere. */
  forget(route: Route): void;
  /** Waits for tokens that are being stored. */
  close(): Promise<void>;
}

/** What main.ts gives this room. */
export interface UpstreamOAuthDeps {
  readonly routes: CurrentRoutes;
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly keys: ClientKeys;
  /** Gets new tokens from the company's provider in place of these, which have expired. Absent: none can be had. */
  readonly refreshSignIn?: (
    old: Pick<SignInSession, "userId" | "tokensAt">,
  ) => Promise<"ok" | "rejected" | "unavailable" | "sign_in_again">;
  /** Default: the system's resolver. */
  readonly resolveHost?: ResolveHost;
}
