import type { Standing } from "../store/store.ts";
import type { UpstreamClient } from "./upstream-client.ts";

/** What a consent under way must remember: kind `upstream` of the store's pending authorizations, encrypted there. */
export interface PendingConsent {
  readonly routeId: string;
  readonly upstream: string;
  /** Where the client that began has its endpoint (`Route.askedPath`). */
  readonly askedPath?: string;
  readonly userId: string;
  /** Host of the callback: it takes place where the browser left. */
  readonly host: string;
  readonly redirectUri: string;
  readonly codeVerifier: string;
  readonly issuer: string;
  /** As in `UpstreamServer`. */
  readonly named?: string;
  readonly issuerKnown: boolean;
  /** RFC 9207: the server promises `iss`, so an answer without it is not this server's. */
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
  /** As in `ConsentNotice`: what the person has agreed to be sent to. Absent in flows of earlier versions. */
  readonly server?: string;
  /** As this began: where the person has disconnected or gone since, it stores nothing. Absent in flows of earlier versions. */
  readonly standing?: Standing;
  /** Whether it is the second try, with a new client of ours. Absent in flows of earlier versions. */
  readonly again?: boolean;
}
