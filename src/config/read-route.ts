import type { z } from "zod";
import { isLoopbackName } from "../egress/addresses.ts";
import type { PolicySource, Route } from "../model/route.ts";
import { buildRoute } from "./build-route.ts";
import { parsePolicy } from "./parse-policy.ts";
import { dropPomeriumKeys } from "./pomerium.ts";
import { type Reporter, reportIssues } from "./reporter.ts";
import type { routeSchema } from "./route-schema.ts";
import type { ConfigPath } from "./source.ts";

/** Reads a route's `from`, and Pomerium's `prefix` beside it (F1.1). What is wrong with them is reported; `undefined` then. */
export function readFrom(
  input: { readonly from: string; readonly prefix?: string | undefined },
  path: ConfigPath,
  reporter: Reporter,
): Pick<Route, "origin" | "host" | "prefix"> | undefined {
  const at = [...path, "from"];
  const fail = (message: string, fix: string) => {
    reporter.error(at, message, fix);
    return undefined;
  };
  const url = URL.parse(input.from);
  const example = "write https://host or https://host/path";
  if (input.from.includes("*")) return fail("wildcard hosts are not supported", "write one route per host");
  if (url === null || !/^https?:$/.test(url.protocol)) {
    return fail(`${JSON.stringify(input.from)} is not an https URL`, example);
  }
  if (url.protocol === "http:" && !isLoopbackName(url.hostname)) {
    return fail(
      "http: is for localhost only: tokens would travel in the clear",
      `write https://${url.host}${url.pathname.replace(/\/$/, "")}`,
    );
  }
  if (url.username + url.password + url.search + url.hash !== "" || url.hostname.endsWith(".")) {
    return fail("`from` has no user, query, fragment or trailing dot", example);
  }
  const written = input.prefix ?? url.pathname;
  if (input.prefix !== undefined && url.pathname !== "/") {
    return fail("the path stands in both `from` and `prefix`", "keep the one in `from`");
  }
  const prefix = written.replace(/\/$/, "") || "/";
  if (prefix !== "/" && !/^(\/[A-Za-z0-9._~!$&'()*+,=:@-]+)+$/.test(prefix)) {
    return fail(`${JSON.stringify(written)} cannot be a path prefix`, "use plain segments: /team/tools");
  }
  return { origin: url.origin, host: url.host, prefix };
}

/** One entry of `routes` as a route; what is wrong with it is reported, all at once, and `undefined` then. */
export function readRoute(
  entry: Readonly<Record<string, unknown>>,
  path: ConfigPath,
  given: {
    readonly schema: ReturnType<typeof routeSchema>;
    readonly defaults: { readonly passIdentityHeaders: boolean; readonly policy: PolicySource | undefined };
  },
  reporter: Reporter,
): Route | undefined {
  const { policy: ownPolicy, ...others } = dropPomeriumKeys("route", entry, path, reporter);
  const input: z.output<typeof given.schema> | undefined = reportIssues(given.schema, others, path, reporter);
  // Read whether or not the rest is good, so that all problems are told at once.
  const from =
    typeof others.from === "string"
      ? readFrom({ from: others.from, prefix: text(others.prefix) }, path, reporter)
      : undefined;
  const policy = ownPolicy === undefined ? undefined : parsePolicy(ownPolicy, [...path, "policy"], reporter);
  if (input === undefined || from === undefined || (ownPolicy !== undefined && policy === undefined))
    return undefined;
  return buildRoute(input, path, reporter, { from, policy, defaults: given.defaults });
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
