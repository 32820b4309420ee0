import { z } from "zod";
import type { WellKnownText } from "../model/route.ts";

/** Of these the first segment is ours: what stands there decides where clients authorize, and whom they believe. */
const ours = new Set([
  "oauth-authorization-server",
  "openid-configuration",
  "oauth-protected-resource",
  "pomerium",
]);
/** Bytes of one text. */
const longest = 16 * 1024;
const mostTexts = 32;
const segments = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(?:\/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){0,3}$/;

/** Why a name below `/.well-known/` cannot be served; undefined: it can. */
function nameFault(name: string): string | undefined {
  if (!segments.test(name))
    return `${JSON.stringify(name)} is not an exact name below /.well-known/ (letters, digits, . _ -, up to four segments)`;
  const [first = ""] = name.toLowerCase().split("/");
  return ours.has(first) ? `/.well-known/${name} is served by the gateway itself` : undefined;
}

/** The text as it is sent; undefined: it is none. */
function read(value: unknown): WellKnownText | undefined {
  if (typeof value === "string")
    return { contentType: "text/plain; charset=utf-8", body: value.replace(/\r\n?/g, "\n") };
  if (typeof value !== "object" || value === null) return undefined;
  return { contentType: "application/json", body: JSON.stringify(value) };
}

/** Why a text cannot be served. */
function textFault(value: unknown): string | undefined {
  const text = read(value);
  if (text === undefined) return "a text must be a string, or a mapping or list that is served as JSON";
  if (text.body === "") return "the text is empty";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what no text has
  if (!text.body.isWellFormed() || /[\u0000-\u0008\u000b-\u001f\u007f]/.test(text.body))
    return "the text has control characters";
  if (Buffer.byteLength(text.body) > longest) return `the text is longer than ${longest} bytes`;
  return undefined;
}

/** `well_known` of a route, as written. */
export function wellKnownSchema() {
  return z.record(z.string(), z.unknown()).superRefine((given, issues) => {
    const fail = (path: string[], message: string, fix: string) =>
      issues.addIssue({ code: "custom", path, message, params: { fix } });
    if (Object.keys(given).length > mostTexts)
      fail([], `more than ${mostTexts} texts`, "serve them from another server");
    for (const [name, value] of Object.entries(given)) {
      const fault = nameFault(name);
      if (fault !== undefined)
        fail([name], fault, "write the name without /.well-known/: openai-apps-challenge, security.txt");
      const wrong = textFault(value);
      if (wrong !== undefined) fail([name], wrong, "write the text, or a mapping for JSON");
    }
  });
}

/** What a checked `well_known` serves, by path. */
export function wellKnownTexts(
  given: Readonly<Record<string, unknown>> | undefined,
): ReadonlyMap<string, WellKnownText> {
  return new Map(
    Object.entries(given ?? {}).flatMap(([name, value]) => {
      const text = read(value);
      return text === undefined ? [] : [[`/.well-known/${name}`, text] as const];
    }),
  );
}
