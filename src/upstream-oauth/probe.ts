import { sameHost } from "../config/upstream-urls.ts";
import { SafeFetchError } from "../egress/errors.ts";
import type { Route } from "../model/route.ts";
import type { FailureCode } from "./failures.ts";
import type { UpstreamChallenge } from "./www-authenticate.ts";

/** What an upstream's response to a request without a token means. */
export type ProbeMeaning =
  /** It asks for a token. */
  | "token_wanted"
  /** It processed the request without a token. */
  | "open"
  /** Not an MCP endpoint, or an inconclusive response: it is unknown whether a token is needed. */
  | "unknown";
export interface ProbeAnswer {
  readonly meaning: ProbeMeaning;
  readonly finding: string;
}

/**
 * Reads the response to a JSON-RPC request without a credential.
 *
 * @param answer.contentType content type of the body
 */
export function readProbeAnswer(answer: {
  readonly status: number;
  readonly contentType?: string | null;
  readonly challenge?: UpstreamChallenge;
}): ProbeAnswer {
  const { status, challenge } = answer;
  const type = (answer.contentType ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
  const unknown = (finding: string): ProbeAnswer => ({ meaning: "unknown", finding });
  if (status === 401 || (challenge && status >= 400 && status < 500)) {
    const where = challenge?.resourceMetadata
      ? "and says where its metadata is"
      : challenge?.unreadableMetadata
        ? "and names its metadata with something that is not a URL"
        : "without saying where its metadata is";
    return {
      meaning: "token_wanted",
      finding: `asks for a token${where.startsWith("and") ? " " : ", "}${where}`,
    };
  }
  if (status >= 200 && status < 300) {
    if (/^(text\/html|application\/xhtml\+xml)$/.test(type)) {
      return unknown("answers with a web page: there is no MCP server at this URL");
    }
    return { meaning: "open", finding: "answers without a token" };
  }
  if (status < 400) return unknown("answers with a redirect: the MCP server is somewhere else");
  switch (status) {
    case 404:
    case 405:
    case 410:
      return unknown(`is not an MCP endpoint (${status}): it is unknown whether it needs a token`);
    case 403:
      return unknown(
        "rejects the request without asking for a token (403): perhaps a firewall or an address list",
      );
    case 429:
      return unknown("limits the rate of requests (429)");
    case 407:
      return unknown("is behind a proxy that requires authentication (407)");
    default:
      if (status >= 500) return unknown(`fails (${status}): it is unknown whether it needs a token`);
      return { meaning: "open", finding: `answers without a token, but does not accept a ping (${status})` };
  }
}

/** Failure code of an `unknown` response. `status` is absent if there was no response. */
export function codeOfUnknown(status: number | undefined): FailureCode {
  if (status === undefined) return "unreachable";
  if (status === 429) return "rate_limited";
  if (status >= 500) return "server_error";
  return status >= 300 && status < 400 ? "redirect_not_followed" : "not_an_mcp_server";
}

/** A response of a route's upstream, possibly after a redirect to another of its URLs. */
export type ProbeResponse = Response & { readonly redirectedTo?: string };

/** Enough for a server that adds a slash and then redirects again. */
const maxRedirects = 3;

/**
 * Sends a request to an upstream and follows redirects to its own host, which often have the wrong scheme behind a TLS terminator. The
 * same request is sent to the new path, always on the original origin and with the same method.
 *
 * @throws SafeFetchError `redirect_not_followed` with advice on `to`, and what `send` throws.
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
      if (!(error instanceof SafeFetchError) || error.code !== "redirect_not_followed") throw error;
      const target = URL.parse(error.location ?? "");
      const { status } = error;
      if (target === null || !own.some((one) => sameHost(target, one))) {
        const destination = target?.host ? `to ${target.host}` : "elsewhere";
        throw new SafeFetchError(
          "redirect_not_followed",
          `${host} redirects ${destination} (${status}), which is not its own host: set \`to\` to the URL that answers without a redirect`,
          { cause: error, location: error.location, status, server: host },
        );
      }
      if (redirects === maxRedirects)
        throw new SafeFetchError(
          "redirect_not_followed",
          `${host} redirects more than ${maxRedirects} times (${status}): set \`to\` to the URL that answers without a redirect`,
          { cause: error, location: error.location, status, server: host },
        );
      url = origin + target.pathname + target.search;
    }
  }
}

/** Addition to a finding if the response came after redirects. */
export function detourOf({ redirectedTo }: Pick<ProbeResponse, "redirectedTo">): string {
  return redirectedTo === undefined
    ? ""
    : `, but redirects to ${redirectedTo} first: set \`to\` to that URL to save a redirect per call`;
}
