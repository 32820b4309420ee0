import { z } from "zod";
import { checkClientProof } from "../client-metadata-rules.ts";
import { consentKind, secretsOf } from "./kind.ts";

/** Parameters that `authorization_url_params` must not contain: another value would disable a protection. */
const ownAuthorizationParams = new Set([
  "response_type",
  "client_id",
  "redirect_uri",
  "state",
  "code_challenge",
  "code_challenge_method",
]);

/** `upstream_oauth2`, the default: a token per user, with the user's consent. */
export const oauth = consentKind({
  discovers: true,
  schema: ({ f, authMethod, scopes, secrets }) =>
    z
      .strictObject({
        client_id: f.text().optional(),
        ...secrets,
        endpoint: z
          .strictObject({
            auth_url: f.url().optional(),
            token_url: f.url().optional(),
            revocation_url: f.url().optional(),
            auth_style: authMethod,
          })
          .superRefine((given, issues) => {
            // With `auth_style` only, the server is discovered.
            if (!given.auth_url && !given.token_url && !given.revocation_url) return;
            for (const name of ["auth_url", "token_url"] as const)
              if (!given[name])
                issues.addIssue({
                  code: "custom",
                  path: [name],
                  message: "is missing: auth_url and token_url are set together, or discovered",
                  params: { fix: `add ${name}, or keep auth_style only` },
                });
          })
          .optional(),
        scopes,
        max_scopes: scopes,
        authorization_url_params: z
          .record(z.string(), z.string())
          .superRefine((params, issues) => {
            for (const name of Object.keys(params).filter((one) => ownAuthorizationParams.has(one)))
              issues.addIssue({
                code: "custom",
                path: [name],
                message: `${name} is set by the gateway: another value would disable a protection`,
                params: { fix: `remove ${name}` },
              });
          })
          .default({}),
      })
      .superRefine((given, issues) => {
        // Without a configured client, `auth_style` applies to the registered client.
        const { client_id, client_secret, private_key } = given;
        const registers = client_id === undefined && client_secret === undefined && private_key === undefined;
        const auth_style = registers ? undefined : given.endpoint?.auth_style;
        checkClientProof({ ...given, auth_style }, issues, ["endpoint", "auth_style"]);
      }),
  build(given, { authorizationServerUrl }) {
    const { auth_url: authUrl, token_url: tokenUrl, revocation_url: revocationUrl } = given.endpoint ?? {};
    return {
      clientId: given.client_id,
      ...secretsOf(given),
      ...(authUrl === undefined || tokenUrl === undefined
        ? {}
        : { endpoint: { authUrl, tokenUrl, revocationUrl } }),
      authMethod: given.endpoint?.auth_style,
      scopes: given.scopes,
      maxScopes: given.max_scopes,
      authorizationUrlParams: given.authorization_url_params,
      authorizationServerUrl,
    };
  },
});
