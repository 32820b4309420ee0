import { errors, type KoaContextWithOIDC } from "oidc-provider";
import { sentence } from "../config/problems.ts";
import { errorPage } from "../pages/error-page.ts";
import { requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import { StoreUnavailable } from "../store/errors.ts";

/** An error of oidc-provider, as its events have it. */
export interface Failure {
  /** Its code; oidc-provider's errors have it as their message, too. */
  readonly error?: string;
  readonly message: string;
  readonly error_description?: string;
  /** What oidc-provider keeps from its answers. */
  readonly error_detail?: string;
}

/** Both are sentences without their end, for a page as well as for an `error_description`. */
export interface Explanation {
  readonly happened: string;
  readonly remedy?: string;
}

const startAgain = "authorize again";

/**
 * What went wrong and what to do about it, for an engineer who reads a client's log. Says nothing that a stranger could not have
 * found out by asking: no address, and no text of the request but the host of a client's document.
 *
 * @param client.id as the request names it
 * @param client.fault why its document is not even asked for
 */
export function explainError(
  failure: Failure,
  client: { readonly id?: string; readonly fault?: string } = {},
): Explanation | undefined {
  const detail = failure.error_detail;
  switch (failure.error ?? failure.message) {
    case "invalid_grant":
      // Others say it in their own words.
      if (failure.error_description !== "grant request is invalid" || detail === undefined) return undefined;
      return { happened: detail, remedy: grantRemedy(detail) };
    case "invalid_client":
      return clientFault(failure, client);
    case "invalid_client_metadata":
    case "invalid_redirect_uri":
      if (failure.error_description === undefined || documentHost(client.id) === undefined) return undefined;
      // The request's, not the document's.
      if (failure.error_description.startsWith("redirect_uri ")) return undefined;
      return {
        happened: `the description that the application publishes is not acceptable: ${failure.error_description}`,
        remedy: "its publisher has to correct it",
      };
    case "unsupported_grant_type":
      return {
        happened: "this grant type is not supported",
        remedy: "use authorization_code or refresh_token",
      };
    default:
      return undefined;
  }
}

function grantRemedy(detail: string): string {
  if (/code_verifier|code_challenge/.test(detail))
    return "send the code_verifier of the request that asked for this code";
  if (detail.includes("redirect_uri")) return "send the redirect_uri of the authorization request";
  if (detail === "client mismatch")
    return "it was issued to another client_id: use the one that asked for it";
  return startAgain;
}

function clientFault(
  { error_description: description = "", error_detail: detail }: Failure,
  { id, fault }: { readonly id?: string; readonly fault?: string },
): Explanation | undefined {
  if (fault !== undefined)
    return { happened: fault, remedy: "register the application, or ask the operator" };
  const host = documentHost(id);
  if (description.includes("fetch failed")) {
    return {
      happened: `this gateway could not fetch the application's description from ${host ?? "its host"}: ${fetchFault(detail)}`,
      remedy: "the operator finds the whole reason in the log by the request id",
    };
  }
  if (description.includes("fetch not allowed"))
    return { happened: "nobody has allowed this client here, or no longer", remedy: startAgain };
  switch (detail) {
    case "client not found":
      return host === undefined
        ? {
            happened: "the client_id is not known here: it never registered, or was forgotten since",
            remedy: "register again",
          }
        : {
            happened: "the URL by which the application names itself cannot be a client_id",
            remedy: "it must be https, with a path, and without fragment, user and dot segments",
          };
    case "invalid secret provided":
      return { happened: "the client_secret is wrong", remedy: "send the one that registration answered" };
    case "the provided authentication mechanism does not match the registered client authentication method":
      return {
        happened: "the client does not authenticate as it has registered",
        remedy: "use its token_endpoint_auth_method, or register again",
      };
    case undefined:
      return undefined;
    default:
      return { happened: `client authentication failed: ${detail}` };
  }
}

/** Not the error itself: it may say which addresses a name has here, and what answers there. */
function fetchFault(detail = ""): string {
  const status = /^unexpected response status (\d{3})$/.exec(detail)?.[1];
  if (status !== undefined) return `it answered with HTTP status ${status}`;
  if (/JSON/.test(detail)) return "its answer is not JSON";
  if (/too large|longer than/.test(detail)) return "its answer is too long";
  return "it could not be reached from here";
}

function documentHost(id: string | undefined): string | undefined {
  const url = id === undefined ? null : URL.parse(id);
  return url?.protocol === "https:" ? url.host : undefined;
}

/**
 * Answers with the error that oidc-provider has found: as a page, or as JSON for who asks for that. `ctx.status` is its status.
 * @param explained in words, where they are better than oidc-provider's
 */
export function sendError(ctx: KoaContextWithOIDC, failure: Failure, explained?: Explanation): void {
  const status = ctx.status;
  const ours = status >= 500 && failure.error !== "temporarily_unavailable";
  const error = ours ? "server_error" : (failure.error ?? failure.message);
  const happened = ours
    ? "something went wrong on our side"
    : (explained?.happened ??
      failure.error_description ??
      "the application sent a request that cannot be answered");
  if (ctx.accepts("html", "json") === "json") {
    const error_description = [happened, explained?.remedy].filter(Boolean).join("; ");
    ctx.body = { error, error_description, request_id: requestId(ctx.req) };
    return;
  }
  const again =
    "Go back to the application and connect again. If it happens again, the application has to be corrected.";
  const page = errorPage({
    title: "This authorization cannot go on",
    happened: sentence(happened),
    remedy: explained?.remedy === undefined ? again : sentence(explained.remedy),
    code: error,
    requestId: requestId(ctx.req),
  });
  sendPage(ctx, status, page);
}

/** `temporarily_unavailable` as RFC 6749 section 4.1.2.1 names it, with HTTP status 503 at endpoints that clients call directly. */
export function temporarilyUnavailable(message: string, cause?: unknown): errors.OIDCProviderError {
  const error = new errors.TemporarilyUnavailable(message, { cause });
  error.status = 503;
  error.statusCode = 503;
  return error;
}

/** Awaits work on the store inside oidc-provider; when the store does not answer, the client hears 503, not 500. */
export async function orUnavailable<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof StoreUnavailable) {
      throw temporarilyUnavailable("the service cannot reach its database; try again shortly", error);
    }
    throw error;
  }
}
