import { z } from "zod";
import { checkClientProof } from "../client-metadata-rules.ts";
import { nonInteractiveKind, secretsOf } from "./kind.ts";

export interface ClientCredentialsSettings {
  /** Workload identity (RFC 7523 section 2.1): a file with the platform's JWT, sent as `assertion`. */
  readonly workloadIdentityFile?: string;
}

/** RFC 6749 section 4.4 (or RFC 7523 section 2.2 with `private_key_jwt` or a workload identity): one token for all users. */
export const clientCredentials = nonInteractiveKind({
  discovers: true,
  schema: ({ f, authMethod, scopes, secrets }) =>
    z
      .strictObject({
        client_id: f.text(),
        ...secrets,
        auth_style: authMethod,
        token_url: f.url().optional(),
        authorization_server_url: f.url().optional(),
        scopes,
        workload_identity_file: f.path().optional(),
      })
      .superRefine(checkClientProof),
  build: (given, server) => ({
    clientId: given.client_id,
    ...secretsOf(given),
    authMethod: given.auth_style,
    scopes: given.scopes,
    tokenUrl: given.token_url,
    authorizationServerUrl: given.authorization_server_url ?? server.authorizationServerUrl,
    otherEndpoints: [],
    tokenOf: "service",
    needsPerson: false,
    settings: { workloadIdentityFile: given.workload_identity_file } satisfies ClientCredentialsSettings,
  }),
});
