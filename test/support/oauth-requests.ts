import { createHash, randomBytes } from "node:crypto";
import type { Stack } from "../../dev/demo/stack.ts";

type Place = Pick<Stack, "fetch" | "urls">;

/** An authorization request with its verifier. */
export interface Asked {
  readonly url: URL;
  readonly verifier: string;
  readonly clientId: string;
  readonly redirectUri: string;
}

/** Requests of an MCP client, honest or not, to the authorization server through Envoy. */
export function oauthRequests({ fetch, urls }: Place) {
  const { issuer } = urls;

  /** Registers a public client (RFC 7591). @returns its client id */
  async function register(redirectUris: readonly string[], metadata: object = {}): Promise<string> {
    const response = await fetch(`${issuer}/oauth/register`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        client_name: "Popular editor",
        redirect_uris: redirectUris,
        token_endpoint_auth_method: "none",
        ...metadata,
      }),
    });
    const body = (await response.json()) as { client_id?: string };
    if (!body.client_id) throw new Error(`not registered: ${response.status} ${JSON.stringify(body)}`);
    return body.client_id;
  }

  /** An authorization request for the open route, with its own verifier; `changes` replaces parameters. */
  function ask(clientId: string, redirectUri: string, changes: Record<string, string> = {}): Asked {
    const verifier = randomBytes(32).toString("base64url");
    const url = new URL(`${issuer}/oauth/authorize`);
    url.search = new URLSearchParams({
      response_type: "code",
      client_id: clientId,
      redirect_uri: redirectUri,
      resource: urls.open,
      code_challenge: createHash("sha256").update(verifier).digest("base64url"),
      code_challenge_method: "S256",
      state: "s",
      ...changes,
    }).toString();
    return { url, verifier, clientId, redirectUri };
  }

  /** Redeems the code of a redirect. */
  async function redeem(asked: Asked, answer: URL): Promise<Record<string, unknown>> {
    const response = await fetch(`${issuer}/oauth/token`, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({
        grant_type: "authorization_code",
        code: answer.searchParams.get("code") ?? "",
        redirect_uri: asked.redirectUri,
        client_id: asked.clientId,
        code_verifier: asked.verifier,
      }).toString(),
    });
    return (await response.json()) as Record<string, unknown>;
  }

  return { register, ask, redeem };
}
