import { hideTools } from "./hide-tools.ts";
import type { MayShow } from "./read-tool-filter.ts";

/** A filtered answer, or the fact that it cannot be read and must not reach the client. */
export type Filtered = { readonly ok: true; readonly body: Uint8Array } | { readonly ok: false };

/**
 * Filters the whole `application/json` answer to a `tools/list` (F8.15). Where nothing has to go, `body` is the very
 * same bytes; where it changed, the response's `content-length` must go, too.
 */
export function filterToolsJson(body: Uint8Array, mayShow: MayShow): Filtered {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return { ok: false };
  }
  const filtered = hideTools(text, mayShow);
  if (filtered === undefined) return { ok: false };
  return { ok: true, body: filtered === text ? body : Buffer.from(filtered) };
}
