import type { z } from "zod";
import type { PolicySource, Route } from "../model/route.ts";
import { buildRoute } from "./build-route.ts";
import type { ConfigPath } from "./config-source.ts";
import { dropPomeriumKeys } from "./drop-pomerium-keys.ts";
import { parsePolicy } from "./parse-policy.ts";
import { readFrom } from "./read-from.ts";
import { reportIssues } from "./report-issues.ts";
import type { Reporter } from "./reporter.ts";
import type { routeSchema } from "./route-schema.ts";

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
