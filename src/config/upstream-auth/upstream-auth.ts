import { z } from "zod";
import { type Route, type UpstreamAuth, upstreamAuth } from "../../model/route.ts";
import type { Config } from "../config.ts";
import type { Fields } from "../field-types.ts";
import type { Reporter } from "../reporter.ts";
import type { ConfigPath } from "../yaml-source.ts";
import { apiKey } from "./api-key.ts";
import { clientCredentials } from "./client-credentials.ts";
import { headers } from "./headers.ts";
import { idJag } from "./id-jag.ts";
import { authFields } from "./kind.ts";
import { none } from "./none.ts";
import { oauth } from "./oauth.ts";
import { tokenExchange } from "./token-exchange.ts";

/** The kinds of `upstream_auth`, by key. A new one needs a file and a line here, and, to obtain tokens, a file in `upstream-oauth/non-interactive/`. */
const kinds = {
  none,
  api_key: apiKey,
  headers,
  token_exchange: tokenExchange,
  client_credentials: clientCredentials,
  id_jag: idJag,
};

type Kinds = typeof kinds;
type Kind = keyof Kinds;
/** The kinds that obtain tokens without consent, each with a grant type. */
export type NonInteractiveType = {
  [K in Kind]: Kinds[K]["mode"] extends "non_interactive" ? K : never;
}[Kind];

/** Every kind by the name that routes and the admin API show: the default first. */
export const upstreamAuthTypes: readonly string[] = ["oauth", ...Object.keys(kinds), "aggregate"];

/** Schemas of `upstream_auth` and `upstream_oauth2`, and of headers, which `request_headers` shares. */
export function upstreamAuthSchemas(f: Fields) {
  const fields = authFields(f);
  const schemas = Object.fromEntries(
    Object.entries(kinds).map(([name, kind]) => [name, kind.schema(fields).optional()]),
  ) as { [K in Kind]: z.ZodOptional<ReturnType<Kinds[K]["schema"]>> };
  const oneKind = z
    .preprocess(
      (value) => (value === "none" ? { none: {} } : value),
      z
        .strictObject(schemas)
        .refine((value) => Object.values(value).filter((kind) => kind !== undefined).length === 1, {
          error: "upstream_auth must have exactly one kind",
          params: { fix: `keep one of ${Object.keys(kinds).join(", ")}` },
        }),
    )
    .meta({ shorthand: { const: "none" } });
  const { header, headerValue } = fields;
  return { upstreamAuth: oneKind, upstreamOAuth2: oauth.schema(fields), header, headerValue };
}

type Schemas = ReturnType<typeof upstreamAuthSchemas>;

/**
 * Builds the upstream authentication from validated settings.
 * @param given.oauth `upstream_oauth2`, at either location; the default if nothing is set
 * @param server other settings of `mcp.server`
 */
export function buildUpstreamAuth(
  given: {
    readonly kinds?: z.output<Schemas["upstreamAuth"]>;
    readonly oauth?: z.output<Schemas["upstreamOAuth2"]>;
  },
  server: { readonly authorizationServerUrl?: string },
): UpstreamAuth {
  for (const [type, settings] of Object.entries(given.kinds ?? {})) {
    if (settings === undefined || !isKind(type)) continue;
    const kind: { readonly mode: UpstreamAuth["mode"]; build(given: never, server: object): object } =
      kinds[type];
    // Each kind gets the output of its own schema, which the types cannot express for all kinds.
    return { mode: kind.mode, type, ...kind.build(settings as never, server) } as UpstreamAuth;
  }
  return {
    mode: oauth.mode,
    type: "oauth",
    ...oauth.build(given.oauth ?? { authorization_url_params: {} }, server),
  };
}

/** Whether an authorization server may be discovered, so that the discovery keys have an effect. */
export function takesDiscovery(auth: UpstreamAuth): boolean {
  if (auth.mode === "consent") return auth.endpoint === undefined;
  return isKind(auth.type) && kinds[auth.type].discovers === true;
}

/** Reports conflicts between a route's authentication and the rest of the configuration. @param path the route's */
export function checkUpstreamAuth(config: Config, route: Route, path: ConfigPath, reporter: Reporter): void {
  const type = upstreamAuth(route)?.type ?? "";
  if (isKind(type)) kinds[type].check?.(config, route, path, reporter);
}

function isKind(type: string): type is Kind {
  return Object.hasOwn(kinds, type);
}
