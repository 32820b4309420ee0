import type { Route } from "../model/route.ts";
import type { Caller, Refusal, Verification } from "./caller.ts";

/** Whose session a token is minted for. */
export interface SessionHolder {
  readonly userId: string;
  /** `secretName` of the session: the token dies with it. */
  readonly sessionName: string;
  /** Unix seconds: it ends no later. */
  readonly sessionExpiresAt: number;
}

/** A good TE apart from any route. */
export interface Identified {
  readonly ok: true;
  readonly caller: Caller;
  readonly audience: readonly string[];
  /** The token's `iat` (Unix seconds) and `jti`. */
  readonly token: { readonly issuedAt?: number; readonly id?: string };
}

/** External tokens: verifying what clients show, minting what applications behind client routes get. */
export interface ExternalTokens {
  /**
   * Verifies a TE for a route (F2.2). A value at hand (a token seen before, the store's notifications healthy) comes without a
   * promise and without I/O. Rejects when the store cannot be asked: the caller must not let the request through.
   */
  verify(token: string, route: Route): Verification | Promise<Verification>;
  /** The same without a route, for listings (F5.2), introspection and revocation (F3.7): audience is the caller's to judge. Asks the store. */
  identify(token: string): Promise<Identified | { readonly ok: false; readonly refusal: Refusal }>;
  /**
   * The TE an application behind the client route gets for a signed-in person (F5.1): one hour at most, bound to the browser
   * session, good for `audience` (resources of MCP routes, never empty). Minted once and reused until half its life is over, or to its
   * end where a new one would end no later.
   */
  forSession(holder: SessionHolder, route: Route, audience: readonly string[]): string | Promise<string>;
  close(): void;
}
