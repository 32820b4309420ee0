import { SafeFetchError } from "./errors.ts";

type Fetch = typeof globalThis.fetch;

/** Redirects of a document. */
const maxHops = 3;

/**
 * GETs a document without credentials, and follows redirects within the host. Each hop is a separate request through `fetchOne` and
 * follows its rules; the timeout applies to all hops together. Never follows to another host, or from https to http.
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
        if (hop === maxHops) {
          throw new SafeFetchError(
            "redirect_not_followed",
            `${url.host} redirects more than ${maxHops} times, which is not followed further`,
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
