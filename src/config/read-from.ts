import { isLoopbackName } from "../egress/addresses.ts";
import type { Route } from "../model/route.ts";
import type { ConfigPath } from "./config-source.ts";
import type { Reporter } from "./reporter.ts";

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
