import { resolve } from "node:path";
import ipaddr from "ipaddr.js";
import { z } from "zod";
import { isLoopbackName, isPrivateHost } from "../egress/addresses.ts";
import { redirectUriFault } from "./client-metadata-rules.ts";
import type { HeaderRules } from "./header-names.ts";
import { type ReferencedFile, readNoFile } from "./referenced-files.ts";

/** Context of the file that the fields are in. */
export interface FieldContext {
  /** Base folder of relative paths. */
  readonly folder: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Every user of this machine can read the file: inline secrets are rejected. */
  readonly worldReadable: boolean;
  /** Secrets are literal and files are not allowed: input from the network must not read files or the environment. */
  readonly literal?: boolean;
  /** The rules for names of headers; default all. */
  readonly headerRules?: HeaderRules;
  /** Reads what a `file:` reference names. @param path absolute */
  readonly readFile: (path: string) => ReferencedFile;
}

const units = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
const sizes = { "": 1, KiB: 1024, MiB: 1024 * 1024 } as const;

/** The value types of the routes file, as zod schemas whose issues have a fix in `params.fix`. */
export type Fields = ReturnType<typeof createFields>;

/** Fields for one file. */
export function createFields(context: FieldContext) {
  /** Without surrounding white space. */
  const text = () => z.string().trim().min(1, { abort: true });
  const list = <T extends z.ZodType>(item: T) => z.array(item);

  /** One value or a list; always parsed to a list. */
  const oneOrMore = <T extends z.ZodType>(item: T) =>
    z
      .preprocess(
        (value) => (Array.isArray(value) || value === undefined ? value : [value]),
        z.array(item).min(1),
      )
      .meta({ shorthand: "one" });

  /** Seconds: a number, or `30s`, `5m`, `1h`, `30d`. */
  const duration = (minimum = 0, maximum = Number.POSITIVE_INFINITY) =>
    z.union([z.number(), z.string()]).transform((value, issues) => {
      const seconds = typeof value === "number" ? value : parseDuration(value);
      if (seconds !== undefined && Number.isFinite(seconds) && seconds >= minimum && seconds <= maximum)
        return seconds;
      reject(
        issues,
        seconds === undefined
          ? `${JSON.stringify(value)} is not a duration`
          : seconds > maximum
            ? `the duration is longer than ${maximum} s`
            : `the duration is shorter than ${minimum} s`,
        "write seconds as a number, or 30s, 5m, 1h, 30d",
      );
      return z.NEVER;
    });

  /** Bytes: a number, or `64KiB`, `1MiB`. */
  const size = (minimum: number, maximum: number) =>
    z.union([z.number(), z.string()]).transform((value, issues) => {
      const match = /^(\d+) ?(|KiB|MiB)$/.exec(String(value));
      const bytes =
        match === null ? Number.NaN : Number(match[1]) * sizes[(match[2] ?? "") as keyof typeof sizes];
      if (bytes >= minimum && bytes <= maximum) return bytes;
      reject(
        issues,
        Number.isNaN(bytes) ? `${JSON.stringify(value)} is not a size` : `${bytes} bytes is out of bounds`,
        `write bytes as a number, or 64KiB, 1MiB; from ${minimum} to ${maximum} bytes`,
      );
      return z.NEVER;
    });

  /** An absolute https URL (http for loopback names, or if `http` is set), as written. */
  const url = (options: { http?: boolean } = {}) =>
    text().refine(
      (value) => {
        const parsed = URL.parse(value);
        if (parsed === null || parsed.hash !== "" || parsed.username !== "" || parsed.password !== "")
          return false;
        if (parsed.protocol === "https:") return true;
        return parsed.protocol === "http:" && (options.http === true || isLoopbackName(parsed.hostname));
      },
      {
        error: (issue) =>
          `${JSON.stringify(issue.input)} is not ${options.http ? "an http or" : "an"} https URL`,
        params: {
          fix: `write ${options.http ? "a" : "an https"} URL without user info or fragment${options.http ? "" : " (http only for localhost)"}`,
        },
      },
    );

  /** `https://host[:port]`, lower case; http for loopback names only. */
  const origin = () =>
    text().transform((value, issues) => {
      const parsed = URL.parse(value);
      const fix = "write https://host or https://host:port, with nothing after it";
      if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.hostname.endsWith(".")) {
        reject(issues, `${JSON.stringify(value)} is not an https origin`, fix);
        return z.NEVER;
      }
      if (parsed.protocol === "http:" && !isLoopbackName(parsed.hostname)) {
        reject(issues, "http: is for localhost only", `write https://${parsed.host}`);
        return z.NEVER;
      }
      if (parsed.pathname !== "/" || parsed.search + parsed.hash + parsed.username !== "") {
        reject(issues, "an origin has no path, query, fragment or user", fix);
        return z.NEVER;
      }
      return parsed.origin;
    });

  /** A client's redirect URI. */
  const redirectUri = () =>
    text().refine((value) => redirectUriFault(value) === undefined, {
      error: (issue) =>
        `${JSON.stringify(issue.input)} is not a redirect URI: it ${redirectUriFault(String(issue.input))}`,
      params: {
        fix: "write an absolute URI without user info or fragment: https, http to localhost, 127.0.0.1 or [::1], or an app's own scheme",
      },
    });

  /** A file path, resolved to an absolute path. */
  const path = () =>
    text().transform((value, issues) => {
      if (!context.literal) return resolve(context.folder, value);
      reject(issues, "files are not allowed here", "move this route to the routes file");
      return z.NEVER;
    });

  /** `host:port` or `unix:/path`. */
  const address = () =>
    text().refine((value) => /^unix:\/./.test(value) || validHostPort(value), {
      error: (issue) => `${JSON.stringify(issue.input)} is not an address`,
      params: { fix: "write host:port, [ipv6]:port or unix:/path" },
    });

  /** An IP address or a CIDR block. */
  const addressBlock = () =>
    text().refine((value) => ipaddr.isValidCIDR(value) || ipaddr.isValid(value), {
      error: (issue) => `${JSON.stringify(issue.input)} is not an address or a CIDR block`,
      params: { fix: "write 10.0.0.5, 10.0.0.0/24 or 2001:db8::/64" },
    });

  /** An entry of `allowed_private_hosts`. */
  const privateHost = () =>
    text().refine(isPrivateHost, {
      error: (issue) => `${JSON.stringify(issue.input)} is not a host, host:port, address or CIDR block`,
      params: {
        fix: "write each host by its name, without scheme, path or wildcard, or the CIDR block of its addresses",
      },
    });

  /**
   * Text with `${NAME}` references, or `file:path`; inline only if others cannot read the file. White space around it is not part of it:
   * files, and variables that were set from one, end with a line break. Literal: "" is one that an administrator has cleared.
   */
  const secret = () =>
    (context.literal ? z.string().trim().meta({ minLength: 1 }) : text())
      .transform((value, issues) => {
        if (context.literal) return value;
        if (value.startsWith("file:")) {
          const file = resolve(context.folder, value.slice(5));
          const { content, fault } = context.readFile(file);
          const secret = content?.trim();
          if (secret) return secret;
          if (fault === undefined) reject(issues, `${file} is empty`, "write the secret to it");
          else
            reject(
              issues,
              `${file} cannot be read (${fault})`,
              "create the file, or make it readable to this process",
            );
          return z.NEVER;
        }
        let missing: string | undefined;
        const resolved = value.replace(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (_, name: string) => {
          const found = context.env[name]?.trim();
          if (!found) missing ??= name;
          return found ?? "";
        });
        if (missing !== undefined) {
          reject(
            issues,
            `the environment variable ${missing} is ${context.env[missing] === undefined ? "not set" : "empty"}`,
            `set ${missing} for this process, or name another variable`,
          );
          return z.NEVER;
        }
        if (resolved === value && context.worldReadable) {
          reject(
            issues,
            "a secret is inline in a file that every user of this machine can read",
            `write \${NAME} and set it in the environment, or file:path, or chmod o-r this file`,
          );
          return z.NEVER;
        }
        return resolved;
      })
      .meta({ writeOnly: true });

  /** A name that is safe in URLs, logs, metrics and user ids. */
  const identifier = () =>
    z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, {
      error: (issue) => `${JSON.stringify(issue.input)} is not an identifier`,
    });

  /** A mapping with optional keys only: absent or empty (`key:`) means the defaults. */
  const section = <S extends z.ZodRawShape>(shape: S) =>
    z.preprocess((value) => value ?? {}, z.strictObject(shape)).meta({ shorthand: { type: "null" } });

  return {
    /** The entry of a stored route, whose secrets may have been cleared. */
    literal: context.literal === true,
    headerRules: context.headerRules ?? "all",
    text,
    list,
    oneOrMore,
    duration,
    size,
    url,
    origin,
    redirectUri,
    path,
    address,
    addressBlock,
    privateHost,
    secret,
    identifier,
    section,
  };
}

function reject(issues: z.RefinementCtx, message: string, fix: string): void {
  issues.addIssue({ code: "custom", message, params: { fix } });
}

function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?([smhd])$/.exec(text);
  return match === null ? undefined : Number(match[1]) * units[match[2] as keyof typeof units];
}

function validHostPort(value: string): boolean {
  const match = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/.exec(value);
  return match !== null && Number(match[1]) <= 65_535;
}

/** Fields for input from the network: secrets are literal, and neither files nor the environment are read. */
export function literalFields(headerRules: HeaderRules = "all"): Fields {
  return createFields({
    folder: "/",
    env: {},
    worldReadable: false,
    literal: true,
    headerRules,
    readFile: readNoFile,
  });
}
