import { endpointUrl, possibleEndpoints } from "../config/paths.ts";
import type { Route } from "../model/route.ts";
import { ping } from "./discovery.ts";
import type { RouteFetch } from "./route-fetch.ts";
import { setHeaders } from "./trial-mcp-session.ts";
import type { TokenProbe } from "./upstream-oauth.ts";

/** These say that there is no MCP endpoint at this URL. */
const notHere = new Set([404, 405, 410]);

/**
 * Sends a `ping`, which opens no session, with a credential to a route's MCP endpoint, or to the usual one if the first URL is not an
 * endpoint. The request goes to the route's own upstream only, like every call.
 *
 * @param headersFor the credential's headers for a POST to this URL (a DPoP proof names the URL)
 * @returns undefined after a redirect: calls of clients do not follow it
 * @throws SafeFetchError
 */
export async function probeWithToken(
  routeFetch: Pick<RouteFetch, "probe">,
  route: Route,
  headersFor: (method: "POST", url: string) => Promise<readonly (readonly [string, string])[]>,
): Promise<TokenProbe | undefined> {
  let found: TokenProbe | undefined;
  for (const endpoint of possibleEndpoints(route)) {
    const credential = Object.fromEntries(await headersFor("POST", endpointUrl(endpoint)));
    const headers = { ...ping.headers, ...setHeaders(route), ...credential };
    const { status, headers: answer, redirectedTo } = await routeFetch.probe(endpoint, { ...ping, headers });
    if (redirectedTo !== undefined) return undefined;
    const dpopNonce = answer.get("dpop-nonce") ?? undefined;
    found = { status, wwwAuthenticate: answer.get("www-authenticate") ?? "", dpopNonce };
    if (!notHere.has(status)) break;
  }
  return found;
}
