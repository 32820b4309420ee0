import type { JSONWebKeySet } from "jose";
import type { CurrentRoutes, RouteTable } from "../config/route-table.ts";
import type { ResolveHost } from "../egress/addresses.ts";
import type { Route, RouteDiscovery } from "../model/route.ts";
import type { SignInSession } from "../store/sign-in-sessions.ts";
import type { Store } from "../store/store.ts";
import type { NewUpstreamToken, PersonState, UpstreamToken } from "../store/upstream-tokens.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { ClientKeys, UpstreamClient } from "./client-authentication.ts";
import type { FailureCode, UpstreamFailure } from "./failures.ts";

/** The user, the route, and where the browser returns to. */
export interface BeginConsent {
  readonly userId: string;
  readonly route: Route;
  /** Where the browser goes in the end; checked by the caller. */
  readonly returnTo: string;
  /** The last page notifies its opener and closes. */
  readonly popup?: boolean;
  /** What the confirmation page has shown to the user. */
  readonly shown?: Pick<ConsentNotice, "server" | "scopes">;
}
/** With `notice` (`notice_needed`): the user must confirm it first. */
export type Begun =
  | { readonly ok: true; readonly location: string; readonly state: string }
  | (UpstreamFailure & { readonly notice?: ConsentNotice });

/** The server that a user is about to be redirected to, and the scopes. */
export interface ConsentNotice {
  /** Host of the authorization server's page. */
  readonly server: string;
  /** Whether it is not on the upstream's site. */
  readonly foreign: boolean;
  readonly scopes: readonly string[];
  /** Scopes beyond those that this server usually requests and those that the user has granted. */
  readonly added: readonly string[];
}

export interface FinishConsent {
  /** The callback's query. */
  readonly params: URLSearchParams;
  /** The callback's own URL, without its query. */
  readonly callback: string;
  /** The callback's host, as in `Route.host`. */
  readonly host: string;
  /** The user signed in to this browser. */
  readonly userId: string;
  /** Value of the cookie that was set for this `state` at the start. */
  readonly browserState: string | undefined;
}
export type Finished =
  | {
      readonly ok: true;
      readonly routeId: string;
      readonly returnTo: string;
      readonly popup: boolean;
      /** Not done: the browser must be redirected again, with this state, since there is a new client. */
      readonly again?: { readonly location: string; readonly state: string };
    }
  | (UpstreamFailure & { readonly routeId?: string; readonly returnTo?: string; readonly popup?: boolean });

export type RefreshOutcome =
  | { readonly kind: "refreshed"; readonly token: NewUpstreamToken }
  /** Final: this token cannot be refreshed. `reason` is the server's error code if it is a known one, else a code of the gateway. */
  | { readonly kind: "rejected"; readonly reason: string }
  | {
      readonly kind: "unavailable";
      readonly retryAfterSeconds: number;
      readonly reason: string;
      /** The server rejected the request (4xx) without a reason: it may be about this token, or about all tokens. */
      readonly unexplained?: true;
    };

/** The caller for whom a token is requested without consent. */
export interface TokenSubject {
  readonly userId: string;
  /** The caller's external token, for `token_exchange` with `subject_token: external_token`. */
  readonly externalToken?: string;
}
export type NonInteractiveOutcome =
  | { readonly kind: "obtained"; readonly token: NewUpstreamToken }
  | { readonly kind: "rejected"; readonly reason: string }
  | { readonly kind: "unavailable"; readonly retryAfterSeconds: number; readonly reason: string };

/** What an upstream answers to a call with a token. */
export interface TokenProbe {
  readonly status: number;
  /** All `WWW-Authenticate` values, joined by commas; "" if there was none. */
  readonly wwwAuthenticate: string;
  readonly dpopNonce?: string;
}

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
  /** HTTP status, if there was a response. */
  readonly status?: number;
  readonly ok: boolean;
  readonly finding: string;
  /** A legacy HTTP+SSE server opened its stream without a token. */
  readonly opensStream?: true;
  /** A hint for the operator although the step succeeded, or about a future problem. */
  readonly note?: string;
}
/** The result of a discovery, without secrets. */
export type DiscoveryResult =
  | {
      readonly ok: true;
      /** False: the upstream answers without credentials and publishes no metadata. */
      readonly needed: boolean;
      readonly issuer?: string;
      readonly scopes: readonly string[];
    }
  | UpstreamFailure;

/** What is known before a route is stored. */
export type Prepared =
  | (Extract<DiscoveryResult, { ok: true }> & {
      /** The authorization server and the client; absent if no token is needed, or nothing was discovered. */
      readonly discovery?: RouteDiscovery;
      /** The route is not stored: takes back the registration that this call has made, unless a route in force may use it. Never throws. */
      undo(): Promise<void>;
    })
  | UpstreamFailure;

/** Whether a token was revoked at its authorization server. `reason`: why not, a clause or a stable code. */
export type Revocation =
  | { readonly revoked: true }
  | { readonly revoked: false; readonly issuer: string; readonly reason: string };

/** The OAuth client of upstreams' authorization servers. */
export interface UpstreamOAuth {
  /** Finds the server, registers a client if needed, and stores a pending authorization. The caller sets the state cookie and redirects. */
  begin(consent: BeginConsent): Promise<Begun>;
  /** What an authorization would ask the user to confirm; undefined if that is unknown. Never throws. */
  notice(userId: string, route: Route): Promise<ConsentNotice | undefined>;
  /** Checks browser, user and issuer, redeems the code, stores the upstream token. Single use. */
  finish(callback: FinishConsent): Promise<Finished>;
  /** One token request; the caller stores the result and holds the lease. */
  refresh(token: UpstreamToken, route: Route): Promise<RefreshOutcome>;
  /** Obtains an upstream token without consent: `token_exchange`, `client_credentials`, `id_jag`. */
  grant(route: Route, subject: TokenSubject): Promise<NonInteractiveOutcome>;
  /** RFC 7009, refresh token first. Never throws. */
  revoke(token: UpstreamToken, route: Route): Promise<Revocation>;
  /** Whether an auto-discovered upstream requires OAuth. Cached; synchronous if known. */
  needed(route: Route): boolean | Promise<boolean>;
  /** Why no call can succeed, if the latest probe has shown it: the upstream redirects to another host. */
  fault(route: Route): FailureCode | undefined;
  /** Path of the MCP endpoint below the route's `from`, known or discovered; "" for `from` itself. Never throws. */
  endpointPath(route: Route): Promise<string>;
  /**
   * What the upstream answers to a `ping` with a credential (`token-probe.ts`); undefined if the upstream gives no usable answer. Never throws.
   * @param headersFor the credential's headers for a request
   */
  probe(
    route: Route,
    headersFor: (method: "POST", url: string) => Promise<readonly (readonly [string, string])[]>,
  ): Promise<TokenProbe | undefined>;
  /** An upstream that seemed open has returned 401: `needed` is true from now on. */
  noteNeeded(route: Route): void;
  /** The Client ID Metadata Document on this host, for this callback; undefined (404) if no such route is auto-discovered. */
  clientMetadataDocument(
    host: string,
    wanted?: { readonly id?: string; readonly confidential?: boolean },
  ): Record<string, unknown> | undefined;
  /** Public keys of the gateway as a client (`private_key_jwt`). */
  clientJwks(): JSONWebKeySet;
  /** Runs discovery without a cache, reporting each step; registers nothing. */
  discover(route: Route, onStep: (step: DiscoveryStep) => void): Promise<DiscoveryResult>;
  /**
   * Runs discovery and registration for a route that is not served yet. `table` is the route table that would contain it. A failure leaves
   * no registration behind, unless a stored route of this id is in force.
   */
  prepare(route: Route, table: RouteTable): Promise<Prepared>;
  /** Revalidates the upstream's metadata and the client registration, since it rejects tokens or names another server. */
  forget(route: Route): void;
  /** Waits for tokens that are being stored. */
  close(): Promise<void>;
}

/** Dependencies of this module. */
export interface UpstreamOAuthDeps {
  readonly routes: CurrentRoutes;
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly keys: ClientKeys;
  /** Refreshes expired tokens at the sign-in provider. Absent: they cannot be refreshed. */
  readonly refreshSignIn?: (
    old: Pick<SignInSession, "userId" | "tokensAt">,
  ) => Promise<"ok" | "rejected" | "unavailable" | "sign_in_again">;
  /** Default: the system's resolver. */
  readonly resolveHost?: ResolveHost;
}

/** State of a pending authorization: kind `upstream` in the store, encrypted there. */
export interface PendingConsent {
  readonly routeId: string;
  readonly upstream: string;
  /** Endpoint of the client that started it (`Route.askedPath`). */
  readonly askedPath?: string;
  readonly userId: string;
  /** Host of the callback, where the browser started. */
  readonly host: string;
  readonly redirectUri: string;
  readonly codeVerifier: string;
  readonly issuer: string;
  /** As in `UpstreamServer`. */
  readonly named?: string;
  readonly issuerKnown: boolean;
  /** RFC 9207: the server advertises `iss`, so a response without it is not from this server. */
  readonly issRequired: boolean;
  readonly tokenEndpoint: string;
  readonly revocationEndpoint?: string;
  readonly clientId: string;
  readonly authMethod: UpstreamClient["authMethod"];
  readonly clientSource: UpstreamClient["source"];
  readonly scopes: readonly string[];
  readonly resource?: string;
  readonly dpop: boolean;
  readonly returnTo: string;
  readonly popup: boolean;
  /** As in `ConsentNotice`: the server that the user agreed to. Absent in flows of earlier versions. */
  readonly server?: string;
  /**
   * The state at the start: if the user has disconnected or been removed since, nothing is stored. Absent in flows of earlier versions.
   * The name is part of the stored format.
   */
  readonly standing?: PersonState;
  /** Whether this is the second attempt, with a new client. Absent in flows of earlier versions. */
  readonly again?: boolean;
  /** When the flow began, Unix milliseconds; a second attempt continues it. Absent in flows of earlier versions. */
  readonly begunAt?: number;
}
