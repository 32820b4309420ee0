import { createHash, randomUUID } from "node:crypto";
import { type ScriptedServer, type Seen, scriptedServer } from "./scripted-server.ts";

/** An MCP server and its authorization server on one loopback origin; a test can replace every response. */
export interface ScriptedUpstream extends ScriptedServer {
  /** `URL/mcp`: a route's `to`. */
  readonly mcp: string;
  /** The authorization server's metadata; changes apply to the next fetch. */
  readonly metadata: Record<string, unknown>;
  readonly registered: { clientId: string; body: Record<string, unknown> }[];
  /** Token requests, in order. */
  readonly tokenRequests: URLSearchParams[];
  /** The next responses of the token endpoint, instead of tokens. */
  readonly tokenAnswers: { status?: number; body: unknown; headers?: Record<string, string> }[];
  /** Clients the server knows; registering adds one. */
  readonly clients: Set<string>;
  /** Members that override every token response; `undefined` removes one. */
  readonly tokenFields: Record<string, unknown>;
  /** Runs before a token request is answered. */
  beforeToken?: () => Promise<void>;
  /** The user consents on the page at `location`: returns the callback's parameters. */
  agree(location: string, extra?: Record<string, string>): URLSearchParams;
  /** Valid refresh tokens. */
  readonly refreshTokens: Set<string>;
}

/** Answers discovery by protected resource metadata, registers, checks PKCE and redirect URI, rotates refresh tokens. */
export async function scriptedUpstream(
  tls?: Parameters<typeof scriptedServer>[1],
): Promise<ScriptedUpstream> {
  const server = await scriptedServer({}, tls);
  const { url } = server;
  const codes = new Map<string, URLSearchParams>();
  const upstream: ScriptedUpstream = {
    ...server,
    mcp: `${url}/mcp`,
    metadata: {
      issuer: url,
      authorization_endpoint: `${url}/authorize`,
      token_endpoint: `${url}/token`,
      registration_endpoint: `${url}/register`,
      code_challenge_methods_supported: ["S256"],
      authorization_response_iss_parameter_supported: true,
      token_endpoint_auth_methods_supported: ["client_secret_basic", "none"],
    },
    registered: [],
    tokenRequests: [],
    tokenAnswers: [],
    tokenFields: {},
    clients: new Set(),
    refreshTokens: new Set(),
    agree(location, extra = {}) {
      const asked = new URL(location).searchParams;
      const code = randomUUID();
      codes.set(code, asked);
      return new URLSearchParams({ code, state: asked.get("state") ?? "", iss: url, ...extra });
    },
  };

  function tokens(seen: Seen) {
    upstream.tokenRequests.push(seen.form);
    const scripted = upstream.tokenAnswers.shift();
    if (scripted) return scripted;
    const { form } = seen;
    const basic = seen.headers.authorization?.match(/^Basic (.*)$/)?.[1];
    const clientId = basic
      ? decodeURIComponent(Buffer.from(basic, "base64").toString().split(":")[0] ?? "")
      : form.get("client_id");
    const refuse = (error: string) => ({ status: error === "invalid_client" ? 401 : 400, body: { error } });
    if (!upstream.clients.has(clientId ?? "")) return refuse("invalid_client");
    if (form.get("grant_type") === "refresh_token") {
      if (!upstream.refreshTokens.delete(form.get("refresh_token") ?? "")) return refuse("invalid_grant");
    } else if (form.get("grant_type") === "authorization_code") {
      const asked = codes.get(form.get("code") ?? "");
      codes.delete(form.get("code") ?? "");
      const challenge = createHash("sha256")
        .update(form.get("code_verifier") ?? "")
        .digest("base64url");
      const fits =
        asked?.get("code_challenge") === challenge &&
        asked.get("code_challenge_method") === "S256" &&
        asked.get("redirect_uri") === form.get("redirect_uri") &&
        asked.get("client_id") === clientId;
      if (!fits) return refuse("invalid_grant");
    }
    const refreshToken = randomUUID();
    upstream.refreshTokens.add(refreshToken);
    return {
      body: {
        access_token: `access-${randomUUID()}`,
        token_type: "Bearer",
        expires_in: 3600,
        refresh_token: refreshToken,
        ...upstream.tokenFields,
      },
    };
  }

  upstream.on("/mcp", {
    status: 401,
    headers: {
      "www-authenticate": `Bearer resource_metadata="${url}/.well-known/oauth-protected-resource/mcp"`,
    },
  });
  upstream.on("/.well-known/oauth-protected-resource/mcp", {
    body: { resource: `${url}/mcp`, authorization_servers: [url], scopes_supported: ["read", "write"] },
  });
  upstream.on("/.well-known/oauth-authorization-server", () => ({ body: upstream.metadata }));
  upstream.on("/register", (seen) => {
    const clientId = `client-${randomUUID()}`;
    upstream.registered.push({ clientId, body: JSON.parse(seen.body) });
    upstream.clients.add(clientId);
    const body = { client_id: clientId, client_secret: "registered-secret", client_secret_expires_at: 0 };
    return { status: 201, body };
  });
  upstream.on("/token", async (seen) => {
    await upstream.beforeToken?.();
    return tokens(seen);
  });
  return upstream;
}
