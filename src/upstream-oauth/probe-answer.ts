import type { FailureCode } from "./failure.ts";
import type { UpstreamChallenge } from "./parse-challenge.ts";

/** What an upstream's answer to a request without a token means. */
export type ProbeMeaning =
  /** It asks for a token. */
  | "token_wanted"
  /** It has read the request without asking for one. */
  | "open"
  /** Whoever answered was not an MCP endpoint, or was not able to say: it is not known whether a token is needed. */
  | "unknown";
export interface ProbeAnswer {
  readonly meaning: ProbeMeaning;
  readonly finding: string;
}

/**
 * Reads an answer to a JSON-RPC request that carried no credential.
 *
 * @param answer.contentType of its body
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
        ? "and names its metadata by something that is not a URL"
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
      return unknown(`is not an MCP endpoint (${status}): nothing can be told of whether it needs a token`);
    case 403:
      return unknown(
        "refuses the request without asking for a token (403): a firewall or an address list, perhaps",
      );
    case 429:
      return unknown("asks us to slow down (429)");
    case 407:
      return unknown("is behind a proxy that wants a password (407)");
    default:
      if (status >= 500) return unknown(`fails (${status}): nothing can be told of whether it needs a token`);
      return { meaning: "open", finding: `answers without a token, and does not accept a ping (${status})` };
  }
}

/** What to call it where an `unknown` answer is the end of the matter. `status` is absent where there was no answer. */
export function codeOfUnknown(status: number | undefined): FailureCode {
  if (status === undefined) return "unreachable";
  if (status === 429) return "rate_limited";
  if (status >= 500) return "server_error";
  return status >= 300 && status < 400 ? "redirect_refused" : "not_an_mcp_server";
}
