import { z } from "zod";
import { nonInteractiveAuth } from "../../model/route.ts";
import { checkClientProof } from "../client-metadata-rules.ts";
import { identityProviderOf } from "../sign-in-providers.ts";
import { nonInteractiveKind, secretsOf } from "./kind.ts";

export interface IdJagSettings {
  /** The provider's token endpoint; default: that of the client's sign-in provider. */
  readonly idpTokenUrl?: string;
  /** Client at the company's provider that exchanges the ID token for the assertion. */
  readonly idpClientId: string;
  readonly idpClientSecret?: string;
}

/** Enterprise-managed authorization: an identity assertion of the company's provider, then RFC 7523 at the upstream's authorization server. */
export const idJag = nonInteractiveKind({
  discovers: true,
  schema: ({ f, authMethod, scopes, secrets }) =>
    z
      .strictObject({
        idp_token_url: f.url().optional(),
        idp_client_id: f.text(),
        idp_client_secret: f.secret().optional(),
        client_id: f.text(),
        ...secrets,
        auth_style: authMethod,
        scopes,
      })
      .superRefine(checkClientProof),
  build: (given, { authorizationServerUrl }) => ({
    clientId: given.client_id,
    ...secretsOf(given),
    authMethod: given.auth_style,
    scopes: given.scopes,
    authorizationServerUrl,
    otherEndpoints: given.idp_token_url === undefined ? [] : [given.idp_token_url],
    tokenOf: "user",
    subjectToken: "sign_in",
    needsPerson: true,
    settings: {
      idpTokenUrl: given.idp_token_url,
      idpClientId: given.idp_client_id,
      idpClientSecret: given.idp_client_secret,
    } satisfies IdJagSettings,
  }),
  /** The operator must choose the provider that gets `idp_client_secret`. */
  check(config, route, path, reporter) {
    const settings = nonInteractiveAuth(route)?.settings as IdJagSettings;
    if (settings.idpTokenUrl !== undefined) return;
    if (config.signIn.providers.length < 2 || identityProviderOf(config, settings)) return;
    reporter.error(
      [...path, "mcp", "server", "upstream_auth", "id_jag"],
      `there are several sign-in providers, and none is named for the client ${settings.idpClientId}: its secret must go to its own provider only`,
      "set idp_token_url to the token endpoint of that provider",
      "key",
    );
  },
});
