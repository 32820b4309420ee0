import { isDeepStrictEqual } from "node:util";
import { retryHeader } from "../config/header-names.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { createEnvoyFetch } from "../egress/envoy-fetch.ts";
import type { ExternalTokens } from "../external-tokens/external-tokens.ts";
import type { MetadataProofs } from "../external-tokens/metadata-proofs.ts";
import type { Route } from "../model/route.ts";
import type { UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import type { MemberFetch } from "./aggregation.ts";

/**
 * Calls members through Envoy, as any MCP client does: their policy, credentials, tool filters, limits, metrics and audit apply. The
 * external token is valid at that member only, and the caller never sees it.
 *
 * @throws (rejects) SafeFetchError if Envoy cannot be reached; Error if the URL is not one of the member, or the route no longer has it
 */
export function createMemberFetch(deps: {
  readonly routes: CurrentRoutes;
  readonly externalTokens: Pick<ExternalTokens, "forMember">;
  readonly metadataProofs: Pick<MetadataProofs, "openHeader">;
}): { readonly memberFetch: MemberFetch; close(): Promise<void> } {
  const { routes, externalTokens, metadataProofs } = deps;
  const envoy = createEnvoyFetch(() => {
    const { listen, through = `http://${listen}`, ca } = routes().config.aggregation;
    return { through, ca };
  });
  const memberFetch: MemberFetch = (call, member) => async (input, init) => {
    const url = input instanceof Request ? input.url : String(input);
    // A member may name other URLs (legacy event streams do): the token is for this member only.
    if (routes().byResource(url)?.id !== member.id)
      throw new Error(`${new URL(url).origin} is not a URL of ${member.id}`);
    const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined));
    headers.set("authorization", `Bearer ${await externalTokens.forMember(call, member)}`);
    headers.set("x-request-id", call.requestId);
    // If this process traces, too, its span takes their place.
    for (const [name, value] of Object.entries(call.trace ?? {})) headers.set(name, value);
    const response = await envoy.fetch(input, { ...init, headers });
    const signed = response.status === 503 ? response.headers.get(retryHeader) : null;
    if (signed === null || !isRepeatable(input, init)) return response;
    const wanted = { route: member.id, user: call.caller.userId };
    if (!isDeepStrictEqual(metadataProofs.openHeader("retry", signed), wanted)) return response;
    // The response path says that the server has rejected its token unseen, and that another one is ready.
    await response.body?.cancel();
    return envoy.fetch(input, { ...init, headers });
  };
  return { memberFetch, close: envoy.close };
}

function isRepeatable(input: string | URL | Request, init: RequestInit | undefined): boolean {
  return !(input instanceof Request) && (init?.body == null || typeof init.body === "string");
}

/** The URL of a member's MCP endpoint, as in listings: its `from` with `mcp.server.path`, or with the path that discovery finds. */
export async function memberUrl(
  member: Route,
  { endpointPath }: Pick<UpstreamOAuth, "endpointPath">,
): Promise<URL> {
  return new URL(member.resource + (await endpointPath(member)));
}
