import type { KoaContextWithOIDC } from "oidc-provider";
import { errorPage } from "../pages/error-page.ts";
import { requestId } from "../pages/request-id.ts";
import { sendPage } from "../pages/send-page.ts";

/**
 * Answers with the error that oidc-provider has found: as a page, or as JSON for who asks for that. `ctx.status` is its status.
 * @param limited it is no client's fault: too many unknown ones are being looked up
 */
export function sendError(
  ctx: KoaContextWithOIDC,
  out: { readonly error: string; readonly error_description?: string },
  limited = false,
): void {
  const status = ctx.status;
  if (ctx.accepts("html", "json") === "json") {
    ctx.body = out;
    return;
  }
  const ours = out.error === "server_error";
  const unknownClient = "The application is not known here: it never registered, or was forgotten since.";
  const tooMany = "Too many unknown applications are being looked up just now.";
  const told = limited ? tooMany : out.error === "invalid_client" ? unknownClient : out.error_description;
  const page = errorPage({
    title: "This authorization cannot go on",
    happened: ours
      ? "Something went wrong on our side."
      : sentence(told ?? "The application sent a request that cannot be answered."),
    remedy:
      "Go back to the application and connect again. If it happens again, the application has to be corrected.",
    code: out.error,
    requestId: requestId(ctx.req),
  });
  sendPage(ctx, status, page);
}

function sentence(text: string): string {
  const trimmed = text.trim();
  return `${trimmed.slice(0, 1).toUpperCase()}${trimmed.slice(1)}${/[.!?]$/.test(trimmed) ? "" : "."}`;
}
