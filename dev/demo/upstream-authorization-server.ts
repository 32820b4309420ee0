import type { ClientAuthMethod, ClientMetadata } from "oidc-provider";
import { type OidcServer, oidcServer } from "./oidc-server.ts";

/** What the resource server gets for a valid token. */
export interface UpstreamGrant {
  readonly account: string;
  readonly clientId: string;
  readonly scopes: readonly string[];
}

/** The upstream's own authorization server, independent of the company and the gateway. */
export interface UpstreamAuthorizationServer extends OidcServer {
  /** For the resource server: the token's account, if it is valid for `resource`. */
  verify(token: string, resource: string): Promise<UpstreamGrant | undefined>;
  /** Invalidates the account's access tokens before they expire; refresh tokens stay valid. */
  killAccessTokens(login: string): Promise<void>;
  /** Revokes everything that the account granted, including refresh tokens. */
  revokeGrants(login: string): Promise<void>;
}

/**
 * Starts a real oidc-provider with its own accounts (ally, bobby) and consent, S256, rotating refresh
 * tokens whose reuse revokes the family, RFC 7009, RFC 8707 and opaque tokens. Times in seconds.
 */
export async function upstreamAuthorizationServer(options: {
  clients: readonly ClientMetadata[];
  port?: number;
  portSetting?: string;
  accessTokenTtl?: number;
  refreshTokenTtl?: number;
  scopes?: readonly string[];
  /** RFC 7591 at `/reg`. */
  dynamicRegistration?: boolean;
  clientIdMetadataDocuments?: boolean;
  /** Default: all that oidc-provider supports, except those with TLS certificates. */
  clientAuthMethods?: ClientAuthMethod[];
  /** Fetches client documents and keys; the default reaches public https hosts only. */
  fetch?: typeof globalThis.fetch;
}): Promise<UpstreamAuthorizationServer> {
  const scopes = options.scopes ?? ["mcp:read", "mcp:write"];
  const accessTokenTtl = options.accessTokenTtl ?? 3600;
  const tokens: { value: string; account: string; grantId: string; access: boolean }[] = [];

  const server = await oidcServer({
    title: "Everything Inc.",
    cookiePrefix: "everything",
    consent: "ask",
    port: options.port,
    portSetting: options.portSetting,
    accounts: [
      {
        login: "ally",
        password: "looking-glass",
        sub: "ally",
        email: "ally@everything.example",
        name: "Ally",
        groups: [],
      },
      {
        login: "bobby",
        password: "hammer",
        sub: "bobby",
        email: "bobby@everything.example",
        name: "Bobby",
        groups: [],
      },
    ],
    configure: () => ({
      clients: options.clients.map((client) => ({
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
        ...client,
      })),
      clientDefaults: { grant_types: ["authorization_code", "refresh_token"], response_types: ["code"] },
      scopes: ["openid", "offline_access", ...scopes],
      ...(options.fetch && { fetch: options.fetch }),
      ...(options.clientAuthMethods && { clientAuthMethods: options.clientAuthMethods }),
      ttl: {
        AccessToken: accessTokenTtl,
        IdToken: 600,
        RefreshToken: options.refreshTokenTtl ?? 86_400,
        Session: 86_400,
        Interaction: 600,
        Grant: 86_400,
      },
      features: {
        devInteractions: { enabled: false },
        revocation: { enabled: true },
        rpInitiatedLogout: { enabled: false },
        registration: { enabled: options.dynamicRegistration ?? false },
        clientIdMetadataDocument: {
          enabled: options.clientIdMetadataDocuments ?? false,
          ...(options.clientIdMetadataDocuments && { ack: "draft-02" }),
        },
        resourceIndicators: {
          enabled: true,
          useGrantedResource: () => true,
          getResourceServerInfo: (_ctx, resource) => ({
            audience: resource,
            scope: scopes.join(" "),
            accessTokenFormat: "opaque",
            accessTokenTTL: accessTokenTtl,
          }),
        },
      },
    }),
  });
  const { provider } = server;
  provider.on("access_token.saved", ({ jti, accountId, grantId }) => {
    tokens.push({ value: jti, account: accountId, grantId: grantId ?? "", access: true });
  });
  provider.on("refresh_token.saved", ({ jti, accountId, grantId }) => {
    tokens.push({ value: jti, account: accountId, grantId: grantId ?? "", access: false });
  });
  const subOf = (login: string) => server.accounts.find((account) => account.login === login)?.sub;

  return {
    ...server,
    async verify(token, resource) {
      const found = await provider.AccessToken.find(token);
      if (!found || found.aud !== resource || !found.clientId) return undefined;
      return { account: found.accountId, clientId: found.clientId, scopes: [...found.scopes] };
    },
    async killAccessTokens(login) {
      for (const token of tokens) {
        if (!token.access || token.account !== subOf(login)) continue;
        await (await provider.AccessToken.find(token.value))?.destroy();
      }
    },
    async revokeGrants(login) {
      const grants = new Set(tokens.filter((one) => one.account === subOf(login)).map((one) => one.grantId));
      for (const grantId of grants) {
        await provider.AccessToken.revokeByGrantId(grantId);
        await provider.RefreshToken.revokeByGrantId(grantId);
        await (await provider.Grant.find(grantId))?.destroy();
      }
    },
  };
}
