import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type OpenServer, openServer } from "../../../dev/demo/open-server.ts";
import { loadKeyEncryptionKeys } from "../../../src/store/encryption/load-keys.ts";
import { openStore } from "../../../src/store/open-store.ts";
import { createLogger } from "../../../src/telemetry/logger.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { createTestDatabase } from "../../support/postgres.ts";
import { type ScriptedServer, scriptedServer } from "../../upstream-oauth/scripted-server.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let authority: ScriptedServer;
let upstream: OpenServer;
let stack: E2e;
beforeAll(async () => {
  const granted = { access_token: "exchanged", token_type: "Bearer", expires_in: 3600 };
  authority = await scriptedServer({ "/token": { body: granted } });
  upstream = await openServer();
  database = await createTestDatabase();
  const token_exchange = {
    token_url: `${authority.url}/token`,
    client_id: "gateway",
    client_secret: "s",
    subject_token: "sign_in_access_token",
  };
  stack = await startE2e({
    names: ["exchange.test"],
    env: { DATABASE_URL: database.url },
    config: (config) => ({
      ...config,
      routes: [
        ...config.routes,
        {
          id: "exchange",
          from: "https://exchange.test",
          to: upstream.url,
          mcp: { server: { upstream_auth: { token_exchange } } },
        },
      ],
    }),
  });
});
afterAll(async () => {
  await stack?.close();
  await Promise.all([authority?.close(), upstream?.close(), database?.close()]);
});

it("an expired sign-in token is refreshed at the sign-in provider, and the new one is exchanged", async () => {
  await stack.externalToken("alice", stack.urls.open);
  const key = { kid: "demo", file: join(stack.configFile, "../encryption-key") };
  const store = await openStore({
    url: database.url,
    dir: join(stack.configFile, ".."),
    keys: await loadKeyEncryptionKeys([key], { env: {}, embeddedDir: undefined }),
    logger: createLogger({ level: "silent" }),
  });
  const signedIn = await store.signInSessions.find("company/alice");
  if (!signedIn) throw new Error("alice has not signed in");
  const checkedAt = new Date(Date.now() - 600_000);
  const accessTokenExpiresAt = checkedAt.getTime() / 1000 + 300;
  await store.signInSessions.put({
    ...signedIn,
    checkedAt,
    tokensAt: checkedAt.getTime(),
    accessTokenExpiresAt,
  });

  const client = await stack.client("alice", "https://exchange.test");
  const connected = await client.connect();
  await connected.callTool({ name: "greet", arguments: { name: "alice" } });
  const renewed = await store.signInSessions.find("company/alice");
  await store.close();
  expect(stack.openid.counts.tokens.refresh_token).toBe(1);
  expect(renewed?.accessToken).not.toBe(signedIn.accessToken);
  expect(authority.seen.map(({ form }) => form.get("subject_token"))).toEqual([renewed?.accessToken]);
  expect(upstream.requests.at(-1)?.headers).toContainEqual(["authorization", "Bearer exchanged"]);
});
