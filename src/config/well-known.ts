import { z } from "zod";
import type { WellKnownText } from "../model/route.ts";

/** Reserved first segments: these documents decide where clients authorize, and which issuer they trust. */
const ours = new Set([
  "oauth-authorization-server",
  "openid-configuration",
  "oauth-protected-resource",
  "pomerium",
]);
/** Size of a text, bytes. */
const maxTextBytes = 16 * 1024;
const maxTexts = 32;
const segments = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(?:\/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){0,3}$/;

/** Why a name below `/.well-known/` cannot be served; undefined if it can. */
function nameFault(name: string): string | undefined {
  if (!segments.test(name))
    return `${JSON.stringify(name)} is not an exact name below /.well-known/ (letters, digits, . _ -, up to four segments)`;
  const [first = ""] = name.toLowerCase().split("/");
  return ours.has(first) ? `/.well-known/${name} is served by the gateway itself` : undefined;
}

/** The text as it is sent; undefined if the value is invalid. */
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
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are rejected here
  if (!text.body.isWellFormed() || /[\u0000-\u0008\u000b-\u001f\u007f]/.test(text.body))
    return "the text has control characters";
  if (Buffer.byteLength(text.body) > maxTextBytes) return `the text is longer than ${maxTextBytes} bytes`;
  return undefined;
}

/** `well_known` of a route, as written. */
export function wellKnownSchema() {
  return z.record(z.string(), z.unknown()).superRefine((given, issues) => {
    const fail = (path: string[], message: string, fix: string) =>
      issues.addIssue({ code: "custom", path, message, params: { fix } });
    if (Object.keys(given).length > maxTexts)
      fail([], `more than ${maxTexts} texts`, "serve the others from another server");
    for (const [name, value] of Object.entries(given)) {
      const fault = nameFault(name);
      if (fault !== undefined)
        fail([name], fault, "write the name without /.well-known/: openai-apps-challenge, security.txt");
      const wrong = textFault(value);
      if (wrong !== undefined) fail([name], wrong, "write the text, or a mapping for JSON");
    }
  });
}

/** The texts of a validated `well_known`, by path. */
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
