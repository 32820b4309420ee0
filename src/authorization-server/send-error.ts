import type { KoaContextWithOIDC } from "oidc-provider";
import { sentence } from "../config/sentence.ts";
import { errorPage } from "../pages/error-page.ts";
import { requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import type { Explanation, Failure } from "./explain-error.ts";

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
