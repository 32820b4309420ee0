import { exportJWK, generateKeyPair, jwtVerify, SignJWT } from "jose";
import { refreshTokenGrant } from "openid-client";
import { afterAll, beforeAll, expect, it } from "vitest";
import { issuerKeys } from "../../src/external-tokens/verify-token.ts";
import { createOpenidClients } from "../../src/sign-in/providers.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { type ScriptedServer, scriptedServer } from "../upstream-oauth/scripted-server.ts";

/** Responses of sign-in providers and trusted issuers that deviate from the specifications. */
let provider: ScriptedServer;
beforeAll(async () => {
  provider = await scriptedServer();
});
afterAll(() => provider?.close());
const of = (id: string, more: object = {}) => {
  const { url } = provider;
  const metadata = { issuer: url, token_endpoint: `${url}/token`, jwks_uri: `${url}/keys`, ...more };
  provider.on("/.well-known/openid-configuration", { body: metadata });
  return { id, issuer: url, clientId: "gateway", clientSecret: "s" } as Parameters<
    ReturnType<typeof createOpenidClients>["of"]
  >[0];
};

it.each<[string, { status?: number; body: unknown }]>([
  [
    "nulls",
    { body: { refresh_token: null, scope: null, expires_in: null, id_token: null, token_type: null } },
  ],
  ["empty members", { body: { refresh_token: "", scope: "", expires_in: "", token_type: "" } }],
  ["no type and a list of scopes", { body: { scope: ["openid", "email"] } }],
  ["status 201", { status: 201, body: { token_type: "Bearer", expires_in: "3600" } }],
])("a provider's token response with %s is accepted", async (what, { status, body }) => {
  const client = await createOpenidClients(fetch).of(of(what));
  provider.on("/token", { status, body: { access_token: "a", ...(body as object) } });
  expect(await refreshTokenGrant(client, "r")).toMatchObject({ access_token: "a", token_type: "bearer" });
});

it("a provider that lists the body before Basic gets the secret in the body", async () => {
  const methods = ["client_secret_post", "client_secret_basic"];
  const client = await createOpenidClients(fetch).of(
    of("post", { token_endpoint_auth_methods_supported: methods }),
  );
  provider.on("/token", { body: { access_token: "a", token_type: "Bearer" } });
  await refreshTokenGrant(client, "r");
  expect(provider.seen.at(-1)?.form.get("client_secret")).toBe("s");
});

it("an invalid entry of a key set does not affect the others", async () => {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const jwk = { ...(await exportJWK(publicKey)), kid: "k", use: null, x5c: null };
  provider.on("/keys", { body: { keys: [null, "no key", { kty: "unknown" }, jwk], next: null } });
  const token = await new SignJWT({}).setProtectedHeader({ alg: "ES256", kid: "k" }).sign(privateKey);
  const logger = createLogger({ level: "silent" });
  const own = issuerKeys({
    issuer: provider.url,
    jwksUri: `${provider.url}/keys`,
    fetch,
    logger,
    now: Date.now,
  });
  for (const keys of [await createOpenidClients(fetch).keysOf(of("keys")), own])
    expect(await jwtVerify(token, keys)).toBeDefined();
});
