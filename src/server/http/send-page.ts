import type { Context } from "koa";
import { stylesheet } from "../../pages/stylesheet.ts";

/**
 * Headers of an HTML page that cannot be framed, scripted or cached. `images` are URLs that the page may show.
 * `form-action` is unset on purpose: browsers also apply it to redirects after a post, and ours lead to MCP clients (loopback ports,
 * app schemes) and to upstreams that are not known in advance.
 */
export function pageHeaders(images: readonly string[] = []): Readonly<Record<string, string>> {
  const sources = images.map((image) => URL.parse(image)?.origin).filter((origin) => origin !== undefined);
  return {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": [
      "default-src 'none'",
      `style-src ${stylesheet.source}`,
      ...(sources.length > 0 ? [`img-src ${sources.join(" ")}`] : []),
      "base-uri 'none'",
      "frame-ancestors 'none'",
    ].join("; "),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
  };
}

/** Answers with an HTML page and its headers. */
export function sendPage(ctx: Context, status: number, page: string, images: readonly string[] = []): void {
  ctx.status = status;
  ctx.set(pageHeaders(images));
  ctx.body = page;
}
