import type { Context } from "koa";
import { adminStyle } from "../../pages/admin/frame.ts";
import { stylesheet } from "../../pages/stylesheet.ts";
import { sendPage } from "../../server/http/send-page.ts";

/**
 * Answers with a page whose forms send their `Origin`, which browsers withhold under the stricter `Referrer-Policy` of other pages.
 * @param forms where they lead, also through redirects: that of a person who has to sign in again leads to the provider
 */
export function sendAdminPage(
  ctx: Context,
  status: number,
  page: string,
  forms: "itself" | "anywhere" = "itself",
): void {
  sendPage(ctx, status, page);
  ctx.set({
    "content-security-policy": [
      "default-src 'none'",
      `style-src ${stylesheet.source} ${adminStyle.source}`,
      ...(forms === "itself" ? ["form-action 'self'"] : []),
      "base-uri 'none'",
      "frame-ancestors 'none'",
    ].join("; "),
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
  });
}
