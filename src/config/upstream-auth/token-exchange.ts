import { z } from "zod";
import { checkClientProof } from "../client-metadata-rules.ts";
import { nonInteractiveKind, secretsOf } from "./kind.ts";

export interface TokenExchangeSettings {
  /** The token to exchange. */
  readonly subjectToken: "external_token" | "sign_in_id_token" | "sign_in_access_token";
  readonly audience?: string;
}

/** RFC 8693: exchanges the caller's token for an upstream token, without consent. */
export const tokenExchange = nonInteractiveKind({
  schema: ({ f, authMethod, scopes, secrets }) =>
    z
      .strictObject({
        token_url: f.url(),
        client_id: f.text(),
        ...secrets,
        auth_style: authMethod,
        subject_token: z
          .enum(["external_token", "sign_in_id_token", "sign_in_access_token"])
          .default("external_token"),
        audience: f.text().optional(),
        scopes,
      })
      .superRefine(checkClientProof),
  build: (given) => ({
    clientId: given.client_id,
    ...secretsOf(given),
    authMethod: given.auth_style,
    scopes: given.scopes,
    tokenUrl: given.token_url,
    otherEndpoints: [],
    tokenOf: "user",
    subjectToken: given.subject_token === "external_token" ? "external_token" : "sign_in",
    needsPerson: false,
    settings: {
      subjectToken: given.subject_token,
      audience: given.audience,
    } satisfies TokenExchangeSettings,
  }),
});
