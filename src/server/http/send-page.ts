import type { Context } from "koa";
import { sentence } from "../../config/problems.ts";
import { errorPage } from "../../pages/error-page.ts";
import { stylesheet } from "../../pages/stylesheet.ts";
import { requestId } from "./request.ts";

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

/** Answers with an error as a page or JSON, whichever the caller prefers. @param message a sentence */
export function answerError(ctx: Context, status: number, code: string, message: string): void {
  if (ctx.accepts("json", "html") === "html") {
    sendErrorPage(ctx, status, code, message);
    return;
  }
  ctx.status = status;
  ctx.set("cache-control", "no-store");
  ctx.body = { error: code, error_description: message, request_id: requestId(ctx.req) };
}

/** Replaces a JSON error by a page if a user has opened the address in a browser. */
export function showErrorToPerson(ctx: Context): void {
  if (ctx.status < 400 || ctx.get("authorization") !== "" || !isNavigation(ctx.method, ctx.headers, true))
    return;
  const { body } = ctx;
  if (typeof body !== "object" || body === null) return;
  const { error, error_description }: { error?: unknown; error_description?: unknown } = body;
  if (typeof error !== "string" || typeof error_description !== "string") return;
  sendErrorPage(ctx, ctx.status, error, sentence(error_description));
}

function sendErrorPage(ctx: Context, status: number, code: string, happened: string): void {
  const { title, remedy } = wordsOf(status);
  sendPage(ctx, status, errorPage({ title, happened, remedy, requestId: requestId(ctx.req), code }));
}

function wordsOf(status: number): { readonly title: string; readonly remedy: string } {
  const remedy = "Check the address, or go back and start again.";
  if (status === 404) return { title: "Not found", remedy };
  if (status === 429) return { title: "Too many requests", remedy: "Wait a moment, then try again." };
  if (status >= 500) return { title: "Something went wrong", remedy: "Try again in a moment." };
  return { title: "Invalid request", remedy };
}

/**
 * Whether a user opens this in a browser. MCP clients accept JSON or an event stream; some programs accept HTML as well.
 *
 * @param headers names in lower case
 * @param takesForms whether a posted form counts as well; browsers identify it with `Sec-Fetch-Mode`
 */
export function isNavigation(
  method: string,
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  takesForms: boolean,
): boolean {
  const mode = headers["sec-fetch-mode"];
  const isForm = takesForms && method === "POST" && mode !== undefined;
  if (method !== "GET" && method !== "HEAD" && !isForm) return false;
  const accept = String(headers.accept ?? "").toLowerCase();
  if (!accept.includes("text/html")) return false;
  if (mode !== undefined) return mode === "navigate";
  return !accept.includes("text/event-stream") && !accept.includes("application/json");
}
