import { sameHost } from "../config/upstream-places.ts";
import { SafeFetchError } from "../egress/safe-fetch-error.ts";
import type { Route } from "../model/route.ts";

/** An answer of a route's upstream, perhaps from another of its URLs than the one asked. */
export type ProbeResponse = Response & { readonly redirectedTo?: string };

/** A server that adds a slash and then something else is not a circle yet. */
const mostRedirects = 3;

/**
 * Asks an upstream as a client's call reaches it: where it redirects to its own host (behind a TLS terminator often by the wrong
 * scheme), the same request goes there, always to the origin that was asked. The method stays: it is the endpoint's answer that is
 * wanted.
 *
 * @throws SafeFetchError `redirect_refused` with what to write as `to`, and whatever `send` throws.
 */
export async function followOwnRedirects(
  send: typeof globalThis.fetch,
  route: Pick<Route, "to" | "origin">,
  asked: string,
  init: RequestInit,
): Promise<ProbeResponse> {
  const { origin, host } = new URL(asked);
  const own = [asked, ...route.to, route.origin].map((url) => new URL(url));
  let url = asked;
  for (let redirects = 0; ; redirects += 1) {
    try {
      const response = await send(url, init);
      return redirects === 0 ? response : Object.assign(response, { redirectedTo: url });
    } catch (error) {
      if (!(error instanceof SafeFetchError) || error.code !== "redirect_refused") throw error;
      const target = URL.parse(error.location ?? "");
      const { status } = error;
      if (target === null || !own.some((one) => sameHost(target, one))) {
        const place = target?.host ? `to ${target.host}` : "elsewhere";
        throw new SafeFetchError(
          "redirect_refused",
          `${host} redirects ${place} (${status}), which is not its own host: write the URL that answers without a redirect as \`to\``,
          { cause: error, location: error.location, status, server: host },
        );
      }
      if (redirects === mostRedirects)
        throw new SafeFetchError(
          "redirect_refused",
          `${host} redirects more than ${mostRedirects} times (${status}): write the URL that answers without a redirect as \`to\``,
          { cause: error, location: error.location, status, server: host },
        );
      url = origin + target.pathname + target.search;
    }
  }
}

/** What to add to a finding about an answer that took redirects. */
export function detourOf({ redirectedTo }: Pick<ProbeResponse, "redirectedTo">): string {
  return redirectedTo === undefined
    ? ""
    : `, but redirects to ${redirectedTo} first: as \`to\`, that would save every call a detour`;
}
