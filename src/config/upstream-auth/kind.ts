import { z } from "zod";
import type { ClientSecrets, Route, UpstreamAuth } from "../../model/route.ts";
import { clientSigningAlgs } from "../client-metadata-rules.ts";
import type { Config } from "../config.ts";
import type { Fields } from "../field-types.ts";
import { credentialHeaderFault, isHeaderValue } from "../header-names.ts";
import type { Reporter } from "../reporter.ts";
import type { ConfigPath } from "../yaml-source.ts";

type Mode = UpstreamAuth["mode"];
/** The result of a kind, without mode and name. */
type Built<M extends Mode> = Omit<Extract<UpstreamAuth, { mode: M }>, "mode" | "type">;

/** A kind of upstream authentication: a file in this folder, and a line in `upstream-auth.ts`. */
export interface UpstreamAuthKind<M extends Mode, Schema extends z.ZodType> {
  readonly mode: M;
  /** Schema of its settings. */
  schema(fields: AuthFields): Schema;
  /** @param server other settings of `mcp.server` */
  build(given: z.output<Schema>, server: { readonly authorizationServerUrl?: string }): Built<M>;
  /** Whether an authorization server is discovered, so that `mcp.server.authorization_server_url` has an effect; default false. */
  readonly discovers?: boolean;
  /** Reports conflicts with the rest of the configuration. @param path the route's */
  check?(config: Config, route: Route, path: ConfigPath, reporter: Reporter): void;
}

const headerFix =
  "name the header from which the upstream reads the credential, such as Authorization or X-Api-Key";

type Without<M extends Mode, S extends z.ZodType> = Omit<UpstreamAuthKind<M, S>, "mode">;

/** A kind with a credential in the routes file. */
export const staticKind = <S extends z.ZodType>(
  kind: Without<"static", S>,
): UpstreamAuthKind<"static", S> => ({
  mode: "static",
  ...kind,
});

/** A kind whose tokens require the user's consent. */
export const consentKind = <S extends z.ZodType>(
  kind: Without<"consent", S>,
): UpstreamAuthKind<"consent", S> => ({ mode: "consent", ...kind });

/** A kind that obtains tokens without consent. */
export const nonInteractiveKind = <S extends z.ZodType>(
  kind: Without<"non_interactive", S>,
): UpstreamAuthKind<"non_interactive", S> => ({ mode: "non_interactive", ...kind });

/** The fields that several kinds share. */
export type AuthFields = ReturnType<typeof authFields>;

export function authFields(f: Fields) {
  return {
    f,
    authMethod: z.preprocess(
      // Pomerium's names for the first two.
      (value) =>
        value === "header" ? "client_secret_basic" : value === "params" ? "client_secret_post" : value,
      z.enum(["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]).optional(),
    ),
    scopes: z.array(f.text()).optional(),
    secrets: {
      client_secret: f.secret().optional(),
      private_key: f.secret().optional(),
      signing_alg: z.enum(clientSigningAlgs).optional(),
    },
    header: z.string().refine((name) => credentialHeaderFault(name, f.headerRules) === undefined, {
      error: (issue) => credentialHeaderFault(String(issue.input), f.headerRules) ?? "",
      params: { fix: headerFix },
    }),
    headerFix,
    headerValue: f
      .secret()
      .refine(isHeaderValue, {
        error: "the value has a line break or another control character",
        params: { fix: "write it on one line, with printable characters only" },
      })
      .meta({ writeOnly: true }),
  };
}

/** The credentials of a client, from its settings. */
export function secretsOf(given: {
  readonly client_secret?: string | undefined;
  readonly private_key?: string | undefined;
  readonly signing_alg?: string | undefined;
}): ClientSecrets {
  return {
    clientSecret: given.client_secret,
    privateKey: given.private_key,
    signingAlg: given.signing_alg,
  };
}
