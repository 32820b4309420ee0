import { processRevocationResponse, WWWAuthenticateChallengeError } from "oauth4webapi";
import { readableScopes } from "./allowed-scopes.ts";

/** What an upstream's `WWW-Authenticate` asks for (RFC 6750 section 3, RFC 9728 section 5.1, RFC 9449 section 7.1). */
export interface UpstreamChallenge {
  readonly error?: string;
  readonly scopes: readonly string[];
  /** Absolute URL, else absent. */
  readonly resourceMetadata?: string;
  /** It takes DPoP-bound tokens only: no Bearer challenge stands beside. */
  readonly dpopOnly?: true;
}

/** Longer ones are as good as none. Characters; all `WWW-Authenticate` headers of an answer together. */
const longestChallenge = 4096;

/** The Bearer (or DPoP) challenge among an answer's `WWW-Authenticate` headers; undefined where there is none that can be read. */
export async function parseChallenge(wwwAuthenticate: string | null): Promise<UpstreamChallenge | undefined> {
  // The parser copies what is left for every parameter: the whole headers of an answer would hold us up for a second.
  if (!wwwAuthenticate || wwwAuthenticate.length > longestChallenge) return undefined;
  try {
    // oauth4webapi's parser has no door of its own: it speaks up when any answer carries challenges.
    await processRevocationResponse(
      new Response(null, { status: 401, headers: { "www-authenticate": wwwAuthenticate } }),
    );
  } catch (error) {
    if (!(error instanceof WWWAuthenticateChallengeError)) return undefined;
    const challenges = error.cause.filter(({ scheme }) => scheme === "bearer" || scheme === "dpop");
    const parameters = challenges.find((one) => one.parameters.resource_metadata) ?? challenges[0];
    if (!parameters) return undefined;
    const { error: code, scope, resource_metadata: url } = parameters.parameters;
    return {
      error: code,
      scopes: readableScopes(scope?.split(/\s+/).filter(Boolean) ?? []),
      resourceMetadata: url && URL.canParse(url) ? url : undefined,
      dpopOnly: challenges.every(({ scheme }) => scheme === "dpop") || undefined,
    };
  }
  return undefined;
}
