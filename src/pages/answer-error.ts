import type { Context } from "koa";
import { sentence } from "../config/sentence.ts";
import { errorPage } from "./error-page.ts";
import { isNavigation } from "./is-navigation.ts";
import { requestId } from "./request-id.ts";
import { sendPage } from "./send-page.ts";

/** An error as the caller prefers it, a page or JSON, with the request id. @param message a sentence */
export function answerError(ctx: Context, status: number, code: string, message: string): void {
  if (ctx.accepts("json", "html") === "html") {
    sendErrorPage(ctx, status, code, message);
    return;
  }
  ctx.status = status;
  ctx.set("cache-control", "no-store");
  ctx.body = { error: code, error_description: message, request_id: requestId(ctx.req) };
}

/** Shows the error that a program would get as JSON as a page, where a person has opened the address in a browser. */
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
  if (status === 429) return { title: "Too many requests", remedy: "Wait a while, then try again." };
  if (status >= 500) return { title: "That did not work", remedy: "Try again in a moment." };
  return { title: "That request was not understood", remedy };
}
