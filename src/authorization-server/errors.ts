import { errors, type KoaContextWithOIDC } from "oidc-provider";
import { sentence } from "../config/problems.ts";
import { type ReservedRoute, unusableMessages } from "../config/reserved-routes.ts";
import { errorPage } from "../pages/error-page.ts";
import { requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import { StoreUnavailable } from "../store/errors.ts";

/** An error as oidc-provider's events report it. */
export interface Failure {
  /** The error code; oidc-provider also uses it as the message. */
  readonly error?: string;
  readonly message: string;
  readonly error_description?: string;
  /** Detail that oidc-provider does not put into its answers. */
  readonly error_detail?: string;
}

/** Sentences without the final period, for a page as well as for an `error_description`. */
export interface Explanation {
  readonly happened: string;
  readonly remedy?: string;
}

const startAgain = "authorize again";

/**
 * What went wrong and what to do about it, for an engineer who reads a client's log. Reveals nothing to an untrusted caller: no
 * addresses, and of the request only the host of a client's document.
 *
 * @param client.id as in the request
 * @param client.fault why its document is not fetched
 */
export function explainError(
  failure: Failure,
  client: { readonly id?: string; readonly fault?: string } = {},
): Explanation | undefined {
  const detail = failure.error_detail;
  switch (failure.error ?? failure.message) {
    case "invalid_grant":
      // Other errors describe themselves.
      if (failure.error_description !== "grant request is invalid" || detail === undefined) return undefined;
      return { happened: detail, remedy: grantRemedy(detail) };
    case "invalid_client":
      return clientFault(failure, client);
    case "invalid_client_metadata":
    case "invalid_redirect_uri":
      if (failure.error_description === undefined || documentHost(client.id) === undefined) return undefined;
      // A fault of the request, not of the document.
      if (failure.error_description.startsWith("redirect_uri ")) return undefined;
      return {
        happened: `the client metadata document of the application is invalid: ${failure.error_description}`,
        remedy: "its publisher has to fix it",
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
    return "send the code_verifier of the authorization request";
  if (detail.includes("redirect_uri")) return "send the redirect_uri of the authorization request";
  if (detail === "client mismatch")
    return "it was issued to another client_id: use the client_id that requested it";
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
      happened: `this gateway could not fetch the application's metadata document from ${host ?? "its host"}: ${fetchFault(detail)}`,
      remedy: "the gateway's log has the full reason under the request id",
    };
  }
  if (description.includes("fetch not allowed"))
    return { happened: "no user has a valid grant for this client", remedy: startAgain };
  switch (detail) {
    case "client not found":
      return host === undefined
        ? {
            happened: "the client_id is unknown: it was never registered, or its registration has expired",
            remedy: "register again",
          }
        : {
            happened: "the URL cannot be a client_id",
            remedy: "it must be https, with a path, and without fragment, user info and dot segments",
          };
    case "invalid secret provided":
      return { happened: "the client_secret is wrong", remedy: "send the one that registration returned" };
    case "the provided authentication mechanism does not match the registered client authentication method":
      return {
        happened: "the client does not use the authentication method that it registered",
        remedy: "use its token_endpoint_auth_method, or register again",
      };
    case undefined:
      return undefined;
    default:
      return { happened: `client authentication failed: ${detail}` };
  }
}

/** Hides the error itself: it may reveal internal addresses and what answers there. */
function fetchFault(detail = ""): string {
  const status = /^unexpected response status (\d{3})$/.exec(detail)?.[1];
  if (status !== undefined) return `it answered with HTTP status ${status}`;
  if (/JSON/.test(detail)) return "its answer is not JSON";
  if (/too large|longer than/.test(detail)) return "its answer is too long";
  return "it could not be reached";
}

function documentHost(id: string | undefined): string | undefined {
  const url = id === undefined ? null : URL.parse(id);
  return url?.protocol === "https:" ? url.host : undefined;
}

/**
 * Answers with an error of oidc-provider, as a page or as JSON, with the status `ctx.status`.
 * @param explained replaces oidc-provider's description
 */
export function sendError(ctx: KoaContextWithOIDC, failure: Failure, explained?: Explanation): void {
  const status = ctx.status;
  const isInternal = status >= 500 && failure.error !== "temporarily_unavailable";
  const error = isInternal ? "server_error" : (failure.error ?? failure.message);
  const happened = isInternal
    ? "something went wrong on our side"
    : (explained?.happened ?? failure.error_description ?? "the application sent an invalid request");
  if (ctx.accepts("html", "json") === "json") {
    const error_description = [happened, explained?.remedy].filter(Boolean).join("; ");
    ctx.body = { error, error_description, request_id: requestId(ctx.req) };
    return;
  }
  const again =
    "Go back to the application and connect again. If the error persists, report it to the application's publisher.";
  const page = errorPage({
    title: "This authorization cannot continue",
    happened: sentence(happened),
    remedy: explained?.remedy === undefined ? again : sentence(explained.remedy),
    code: error,
    requestId: requestId(ctx.req),
  });
  sendPage(ctx, status, page);
}

/** `temporarily_unavailable` (RFC 6749 section 4.1.2.1), with HTTP status 503 at endpoints that clients call directly. */
export function temporarilyUnavailable(message: string, cause?: unknown): errors.OIDCProviderError {
  const error = new errors.TemporarilyUnavailable(message, { cause });
  error.status = 503;
  error.statusCode = 503;
  return error;
}

/** For a stored route that cannot be used now: its grants are kept, and clients try again. */
export function serverUnusable({ reason }: Pick<ReservedRoute, "reason">): errors.OIDCProviderError {
  return temporarilyUnavailable(unusableMessages[reason]);
}

/** Awaits store work inside oidc-provider; if the store is unavailable, the client gets 503 instead of 500. */
export async function orUnavailable<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof StoreUnavailable) {
      throw temporarilyUnavailable("the gateway cannot reach its database; try again shortly", error);
    }
    throw error;
  }
}
