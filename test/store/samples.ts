import type { AuditEvent } from "../../src/store/audit-events.ts";
import type { ClientRegistration } from "../../src/store/client-registrations.ts";
import type { SignInSession } from "../../src/store/sign-in-sessions.ts";
import type { SigningKey } from "../../src/store/signing-keys.ts";
import type { NewUpstreamToken } from "../../src/store/upstream-tokens.ts";

export const inSeconds = (seconds: number) => new Date(Date.now() + seconds * 1_000);

export const connection = {
  userId: "company/alice",
  routeId: "files",
  upstream: "https://files.example.com/mcp",
};

export function upstreamToken(over: Partial<NewUpstreamToken> = {}): NewUpstreamToken {
  return {
    ...connection,
    issuer: "https://as.example.com",
    tokenEndpoint: "https://as.example.com/token",
    revocationEndpoint: "https://as.example.com/revoke",
    clientId: "client-1",
    redirectUri: "https://files.gateway.example/callback",
    accessToken: "secret-access-token",
    tokenType: "Bearer",
    expiresAt: inSeconds(60),
    refreshToken: "secret-refresh-token",
    scopes: ["read", "write"],
    resource: "https://files.example.com/mcp",
    ...over,
  };
}

export const audit = (action: AuditEvent["action"]): AuditEvent => ({
  action,
  userId: connection.userId,
  routeId: connection.routeId,
});

export function registration(over: Partial<ClientRegistration> = {}): ClientRegistration {
  return {
    issuer: "https://as.example.com",
    redirectUri: "https://files.gateway.example/callback",
    clientId: "client-1",
    clientSecret: "secret-client-secret",
    authMethod: "client_secret_basic",
    metadata: { registration_access_token: "secret-registration-token" },
    ...over,
  };
}

export function signingKey(over: Partial<SigningKey> = {}): SigningKey {
  return {
    kid: "key-1",
    purpose: "external_token",
    privateJwk: { kty: "EC", d: "secret-private-key" },
    createdAt: new Date(),
    activeAt: new Date(),
    ...over,
  };
}

export function signIn(userId: string): SignInSession {
  return { userId, providerId: "company", subject: userId, groups: [], claims: {}, checkedAt: new Date() };
}
