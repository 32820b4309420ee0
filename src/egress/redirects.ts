import { SafeFetchError } from "./errors.ts";

type Fetch = typeof globalThis.fetch;

/** A redirect chain for documents, at most. */
const mostHops = 3;

/**
 * GETs a document without credentials, also where its server moves it within the same host: each hop is a request of its own
 * through `fetchOne`, whose rules it obeys, and all of them together take no longer than one. Never to another host, and never
 * from https to http.
 *
 * @param timeoutMs of all hops together, ms
 * @throws SafeFetchError as `fetchOne`
 */
export function followWithinHost(fetchOne: Fetch, timeoutMs: () => number): Fetch {
  return async (input, init) => {
    const deadline = AbortSignal.timeout(timeoutMs());
    const signal = init?.signal ? AbortSignal.any([init.signal, deadline]) : deadline;
    let url = new URL(input instanceof Request ? input.url : input);
    for (let hop = 0; ; hop++) {
      try {
        return await fetchOne(url, { ...init, signal });
      } catch (error) {
        if (deadline.aborted && !(error instanceof SafeFetchError)) {
          throw new SafeFetchError("timed_out", `${url.host} did not answer in time`, { cause: error });
        }
        if (!(error instanceof SafeFetchError)) throw error;
        const next = URL.parse(error.location ?? "");
        if (!next || !isWithinHost(url, next)) throw error;
        if (hop === mostHops) {
          throw new SafeFetchError(
            "redirect_not_followed",
            `${url.host} redirects more than ${mostHops} times, which is not followed any further`,
            { cause: error, status: error.status, server: url.host },
          );
        }
        next.hash = "";
        url = next;
      }
    }
  };
}

/** The same host and port; http may become https on the ports that belong to them. */
function isWithinHost(from: URL, to: URL): boolean {
  if (to.username !== "" || to.password !== "" || to.host !== from.host) return false;
  return to.protocol === from.protocol || (from.protocol === "http:" && to.protocol === "https:");
}
