import { createHash, generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, request, type Server } from "node:http";
import { Agent, createServer as createTlsServer, request as httpsRequest } from "node:https";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportJWK, type JWTPayload, SignJWT } from "jose";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { stringify } from "yaml";
import { certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { sidecar } from "../../dev/demo/sidecar.ts";
import { readEgressProxies } from "../../src/config/build-config.ts";
import type { ResolveHost } from "../../src/egress/addresses.ts";
import { createTrustedAuthorities } from "../../src/egress/connector.ts";
import { type EgressProxies, proxyEnvironment, proxyFor } from "../../src/egress/proxies.ts";
import { createSafeFetch, createTrustedFetch } from "../../src/egress/safe-fetch.ts";
import { awsKmsKeys } from "../../src/store/encryption/aws-kms.ts";
import { googleKmsKeys } from "../../src/store/encryption/google-kms.ts";
import { problemsOf } from "../config/problems-of.ts";
import { startLocalAwsKms } from "../store/local-aws-kms.ts";
import { startLocalGoogleKms } from "../store/local-google-kms.ts";
import { startLocalVault } from "../store/local-vault.ts";
import { everyHostAt } from "../support/every-host-at.ts";
import { grpcPeer } from "../support/grpc-peer.ts";
import { httpBrowser } from "../support/http-browser.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { type ScriptedServer, scriptedServer } from "../upstream-oauth/scripted-server.ts";
import { alice, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

const unresolved: ResolveHost = (_name, done) => done(Object.assign(new Error(), { code: "ENOTFOUND" }), []);
const resolvesTo =
  (...addresses: string[]): ResolveHost =>
  (_name, done) =>
    done(
      null,
      addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
    );

describe("outbound calls through a CONNECT proxy", () => {
  let folder: string;
  let ca: string;
  let server: ReturnType<typeof createTlsServer>;
  let proxy: Server;
  let proxyUrl: string;
  /** Targets requested from the proxy. */
  let asked: { readonly target: string; readonly authorization?: string }[] = [];
  /** Its response to CONNECT. */
  let status = 200;
  /** Servers behind it, by host. */
  const behind = new Map<string, string>();
  /** Requests to these, as `host/path`. */
  let calls: string[] = [];
  const sockets = new Set<Socket>();

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "egress-"));
    const authority = await certificateAuthority(folder, [
      "as.example.test",
      "files.internal",
      "*.world.test",
    ]);
    ({ ca } = authority.files);
    server = createTlsServer(
      {
        key: await readFile(authority.files.key, "utf8"),
        cert: await readFile(authority.files.certificate, "utf8"),
      },
      (incoming, response) => {
        const { host = "", ...headers } = incoming.headers;
        const inside = behind.get(host);
        if (inside === undefined) {
          response.end(JSON.stringify({ host, path: incoming.url }));
          return;
        }
        calls.push(`${host}${incoming.url?.replace(/[?].*/, "")}`);
        const onward = request(
          new URL(incoming.url ?? "/", inside),
          { method: incoming.method, headers: { ...headers, host } },
          (answer) => {
            response.writeHead(answer.statusCode ?? 500, answer.headers);
            answer.pipe(response);
          },
        );
        onward.on("error", () => response.destroy());
        incoming.pipe(onward);
      },
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    proxy = createServer((_request, response) => response.writeHead(400).end());
    proxy.on("connect", (request: IncomingMessage, client: Socket) => {
      sockets.add(client);
      asked.push({
        target: request.url ?? "",
        ...(request.headers["proxy-authorization"] && {
          authorization: request.headers["proxy-authorization"],
        }),
      });
      if (status !== 200) {
        client.end(`HTTP/1.1 ${status} No\r\n\r\n`);
        return;
      }
      const inside = connect((server.address() as AddressInfo).port, "127.0.0.1", () => {
        client.write("HTTP/1.1 200 Connection Established\r\n\r\n");
        inside.pipe(client).pipe(inside);
      });
      sockets.add(inside);
      for (const one of [inside, client]) one.on("error", () => {});
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    proxyUrl = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  });
  afterAll(async () => {
    for (const socket of sockets) socket.destroy();
    server.closeAllConnections();
    proxy.closeAllConnections();
    await Promise.all([server, proxy].map((one) => new Promise((resolve) => one.close(resolve))));
    await rm(folder, { recursive: true, force: true });
  });
  beforeEach(() => {
    asked = [];
    calls = [];
    status = 200;
  });

  const fetches = (
    resolveHost: ResolveHost = unresolved,
    {
      hosts = [],
      proxies,
      timeoutMs = 20_000,
    }: { hosts?: readonly string[]; proxies?: Partial<EgressProxies>; timeoutMs?: number } = {},
  ) => {
    const trusted = createTrustedAuthorities();
    const options = {
      limits: () => ({
        timeoutMs,
        maxResponseBytes: 10_000,
        allowedPrivateHosts: hosts,
        proxies: { https: proxyUrl, http: proxyUrl, noProxy: [], ...proxies },
      }),
      resolveHost,
      tls: { authorities: () => trusted(ca) },
    };
    return { safe: createSafeFetch(options), trusted: createTrustedFetch({ ...options, anyHttp: true }) };
  };
  const failure = (promise: Promise<unknown>) =>
    promise.then(
      () => ({ code: "fetched", message: "" }),
      ({ code, message }: { code: string; message: string }) => ({ code, message }),
    );

  it("a name that does not resolve here is left to the proxy, and the server's certificate is verified", async () => {
    for (const fetch of Object.values(fetches())) {
      const response = await fetch("https://as.example.test/token?x=1");
      expect(await response.json()).toEqual({ host: "as.example.test", path: "/token?x=1" });
    }
    expect(new Set(asked.map(({ target }) => target))).toEqual(new Set(["as.example.test:443"]));
    expect((await failure(fetches().safe("https://other.example.test/"))).code).toBe("tls_failed");
  });

  it("so is one that resolves here to public addresses", async () => {
    const { safe } = fetches(resolvesTo("93.184.216.34", "2606:2800:220:1::1"));
    expect((await safe("https://as.example.test/")).status).toBe(200);
    expect(asked).toHaveLength(1);
  });

  it.each([
    ["an address", "https://93.184.216.34/"],
    ["an IPv6 address", "https://[2606:2800:220:1::1]/"],
    ["a private address", "https://10.0.0.1/"],
    ["an address in another spelling", "https://0x0a000001/"],
    ["the metadata service", "https://169.254.169.254/latest"],
    ["a single label", "https://vault/"],
    ["a single label with a dot at its end", "https://vault./"],
    ["a .local name", "https://printer.local/"],
    ["a .internal name", "https://metadata.google.internal/"],
    ["a .internal name with a dot at its end", "https://METADATA.google.INTERNAL./"],
    ["a Kubernetes service", "https://vault.vault.svc/"],
    ["a Kubernetes service in full", "https://vault.vault.svc.cluster.local/"],
    ["another port", "https://as.example.test:8443/"],
  ])("an untrusted URL is not passed to the proxy if it is %s", async (_what, url) => {
    expect((await failure(fetches().safe(url))).code).toBe("blocked_address");
    expect(asked).toEqual([]);
  });

  it.each([["10.1.2.3"], ["127.0.0.1"], ["169.254.169.254"], ["fd00::1"], ["93.184.216.34", "10.1.2.3"]])(
    "nor if its name resolves here to %s %s",
    async (...addresses) => {
      const { safe } = fetches(resolvesTo(...addresses.filter((one) => typeof one === "string")));
      expect((await failure(safe("https://as.example.test/"))).code).toBe("blocked_address");
      expect(asked).toEqual([]);
    },
  );

  it("nor while its lookup is unanswered: it is rejected with the reason at the call's timeout", async () => {
    const late: ResolveHost = (_name, done) =>
      void setTimeout(done, 1_500, null, [{ address: "10.1.2.3", family: 4 }]);
    expect((await failure(fetches(late).safe("https://as.example.test/"))).code).toBe("blocked_address");
    const never: ResolveHost = () => {};
    const again: ResolveHost = (_name, done) => done(Object.assign(new Error(), { code: "EAI_AGAIN" }), []);
    for (const [resolveHost, timeoutMs] of [
      [never, 1_200],
      [again, 20_000],
    ] as const)
      expect(await failure(fetches(resolveHost, { timeoutMs }).safe("https://as.example.test/"))).toEqual({
        code: "dns_failed",
        message: expect.stringMatching(/lookup of as\.example\.test timed out.*allowed_private_hosts/),
      });
    expect(asked).toEqual([]);
    // The operator's own names need no lookup.
    expect((await fetches(never).trusted("https://as.example.test/")).status).toBe(200);
    expect(
      (await fetches(never, { hosts: ["as.example.test"] }).safe("https://as.example.test/")).status,
    ).toBe(200);
  });

  it("a call that its caller aborts during the lookup is not reported as an unanswered lookup", async () => {
    const never: ResolveHost = () => {};
    for (const abortFirst of [true, false]) {
      const controller = new AbortController();
      const given = new Error("not needed any more");
      const begin = () => fetches(never).safe("https://as.example.test/", { signal: controller.signal });
      if (abortFirst) controller.abort(given);
      const ended = begin().catch((error: unknown) => error);
      controller.abort(given);
      expect(await ended).toBe(given);
    }
    expect(asked).toEqual([]);
    // A timeout is: there was no answer by then.
    const signal = AbortSignal.timeout(200);
    const late = await failure(fetches(never).safe("https://as.example.test/", { signal }));
    expect(late.code).toBe("dns_failed");
  });

  it("the operator's hosts are reached directly if only internal name servers know them, and always on this machine", async () => {
    const { port } = server.address() as AddressInfo;
    const { trusted } = fetches(resolvesTo("127.0.0.1"));
    expect((await trusted(`https://files.internal:${port}/`)).status).toBe(200);
    expect((await failure(trusted(`http://localhost:${port}/`))).code).toBe("unreachable");
    expect((await failure(trusted(`http://127.0.0.1:${port}/`))).code).toBe("unreachable");
    const opened = fetches(resolvesTo("127.0.0.1"), { hosts: ["files.internal"] }).safe;
    expect((await opened(`https://files.internal:${port}/`)).status).toBe(200);
    expect(asked).toEqual([]);
    const elsewhere = await failure(trusted("https://as.example.test:8443/"));
    expect(elsewhere).toMatchObject({
      code: "blocked_address",
      message: expect.stringContaining("NO_PROXY"),
    });
  });

  it("NO_PROXY hosts are reached directly, under the rules for addresses", async () => {
    const { port } = server.address() as AddressInfo;
    const proxies = { noProxy: [".example.test"] };
    const { safe, trusted } = fetches(resolvesTo("127.0.0.1"), { proxies });
    expect((await trusted(`https://as.example.test:${port}/`)).status).toBe(200);
    expect((await failure(safe(`https://as.example.test:${port}/`))).code).toBe("blocked_address");
    expect(asked).toEqual([]);
  });

  it("the proxy gets its credentials, the log does not; a rejection by the proxy and an unreachable proxy are reported as such", async () => {
    const withUser = new URL(proxyUrl);
    [withUser.username, withUser.password] = ["gateway", "hunter2"];
    const proxies = { https: withUser.href };
    await fetches(unresolved, { proxies }).safe("https://as.example.test/");
    expect(asked[0]?.authorization).toBe(`Basic ${Buffer.from("gateway:hunter2").toString("base64")}`);
    status = 403;
    const refused = await failure(fetches(unresolved, { proxies }).safe("https://as.example.test/"));
    expect(refused).toMatchObject({ code: "unreachable", message: expect.stringContaining("answered 403") });
    status = 407;
    const { message } = await failure(fetches(unresolved, { proxies }).safe("https://as.example.test/"));
    expect(message).toContain("requires a user and a password");
    expect(`${refused.message}${message}`).not.toContain("hunter2");
    const away = await failure(
      fetches(unresolved, { proxies: { https: "http://127.0.0.1:1" } }).safe("https://as.example.test/"),
    );
    expect(away.message).toContain("the proxy 127.0.0.1:1 is unreachable");
  });

  it("discovery uses the proxy of the routes file", async () => {
    const stack = await startOAuthClient(
      `  - {id: a, from: "https://mcp.test", to: "https://as.example.test/mcp", mcp: {server: {}}, tls_custom_ca_file: ${ca}}`,
      { settings: `egress: {https_proxy: "${proxyUrl}"}`, resolveHost: unresolved },
    );
    try {
      const begun = await stack.upstreamOAuth.begin({
        userId: alice,
        route: stack.route("a"),
        returnTo: "https://mcp.test/",
      });
      expect(begun.ok).toBe(false);
      expect(asked.map(({ target }) => target)).toContain("as.example.test:443");
    } finally {
      await stack.close();
    }
  });

  it("AWS KMS is called through it, too", async () => {
    status = 403;
    process.env.AWS_ACCESS_KEY_ID ??= "test";
    process.env.AWS_SECRET_ACCESS_KEY ??= "test";
    const awsKms = { key: "alias/k", region: "eu-central-1", endpoint: "https://kms.example.test" };
    await expect(awsKmsKeys({ kid: "k", awsKms }, { HTTPS_PROXY: proxyUrl, NO_PROXY: "" })).rejects.toThrow();
    expect(asked[0]?.target).toBe("kms.example.test:443");
  });

  /** No name resolves here: every successful call went through the proxy, and a call without it fails. */
  const world = "world.test";
  const at = (name: string, path = "") => `https://${name}.${world}${path}`;

  it.each([
    ["egress.https_proxy of the routes file", "file"],
    ["HTTPS_PROXY of its environment", "environment"],
  ] as const)("every outbound call of the sidecar goes through %s", async (_where, where) => {
    const scripted = await scriptedServer();
    const [vault, google, aws] = await Promise.all([
      startLocalVault({ key: "mcp" }),
      startLocalGoogleKms(folder),
      startLocalAwsKms(),
    ]);
    const database = await createTestDatabase();
    const closers: (() => unknown)[] = [
      () => behind.clear(),
      database.close,
      ...[scripted, vault, google, aws].map((one) => one.close),
    ];
    try {
      for (const name of ["id", "client", "trust", "tools", "as"])
        behind.set(`${name}.${world}`, scripted.url);
      for (const [name, { url }] of Object.entries({ vault, gkms: google, sts: google, akms: aws }))
        behind.set(`${name}.${world}`, url);
      const credentials = JSON.parse(await readFile(google.credentials, "utf8"));
      await writeFile(
        google.credentials,
        JSON.stringify({ ...credentials, token_url: at("sts", "/v1/token") }),
      );
      const { sign, nonces } = await scriptWorld(scripted);

      const anyPort = "127.0.0.1:0";
      const config = {
        issuer: "https://auth.test",
        listen: { grpc: anyPort, http: anyPort, admin: anyPort, grpc_authentication: "none" },
        ...(where === "file" && { egress: { https_proxy: proxyUrl } }),
        encryption: {
          keys: [
            { kid: "v", vault: { address: at("vault"), key: "mcp", token: { env: "VAULT_TOKEN" } } },
            { kid: "g", google_kms: { key: google.key, endpoint: at("gkms") } },
            { kid: "a", aws_kms: { key: aws.arn, endpoint: at("akms") } },
          ],
        },
        sign_in: {
          providers: [
            { id: "company", issuer: at("id"), client_id: "gateway", client_secret: "a-long-secret" },
          ],
        },
        external_tokens: {
          trusted_issuers: [
            {
              id: "corp",
              issuer: at("trust"),
              jwks_uri: at("trust", "/trust/keys"),
              audience: "https://mcp.test",
            },
          ],
        },
        // The operator's own names, which need no lookup here.
        upstream_oauth: {
          allowed_private_hosts: ["client", "tools", "as"].map((name) => `${name}.${world}`),
        },
        policy: { allow: { or: [{ accept: true }] } },
        routes: [{ id: "tools", from: "https://mcp.test", to: at("tools", "/mcp"), mcp: { server: {} } }],
        log: { level: "info" },
      };
      const configFile = join(folder, `${where}.yaml`);
      await writeFile(configFile, stringify(config), { mode: 0o600 });
      const none = {
        HTTPS_PROXY: "",
        https_proxy: "",
        HTTP_PROXY: "",
        http_proxy: "",
        NO_PROXY: "",
        no_proxy: "",
      };
      const process = await sidecar({
        configFile,
        logFile: join(folder, `${where}.log`),
        env: {
          ...none,
          ...(where === "environment" && { HTTPS_PROXY: proxyUrl }),
          DATABASE_URL: database.url,
          NODE_EXTRA_CA_CERTS: ca,
          VAULT_TOKEN: vault.token,
          GOOGLE_APPLICATION_CREDENTIALS: google.credentials,
          AWS_ACCESS_KEY_ID: aws.credentials.accessKeyId,
          AWS_SECRET_ACCESS_KEY: aws.credentials.secretAccessKey,
        },
      });
      closers.unshift(() => {
        // No requests are in progress: nothing to drain.
        process.kill("SIGKILL");
        return process.close();
      });
      const ready = (await readFile(process.logFile, "utf8")).match(/^.*"msg":"ready".*$/m)?.[0] ?? "{}";
      const addresses: { http: string; grpc: string } = JSON.parse(ready);
      const ours = everyHostAt(Number(addresses.http.split(":").at(-1)));
      const peer = grpcPeer(addresses.grpc);
      closers.unshift(() => peer.close(), ours.close);

      // Signs in and connects; the provider and the upstream's server consent at once.
      const browser = httpBrowser({
        fetch: async (input, init) => {
          const url = new URL(String(input));
          if (!url.host.endsWith(world)) return ours.fetch(input, init);
          nonces.push(url.searchParams.get("nonce") ?? "");
          const back = new URL(url.searchParams.get("redirect_uri") ?? "");
          back.search = `${new URLSearchParams({ code: "c", state: url.searchParams.get("state") ?? "", iss: url.origin })}`;
          return new Response(null, { status: 302, headers: { location: back.href } });
        },
        stopAt: (url) => url.href.startsWith(at("client", "/callback")),
      });
      const clientId = at("client", "/client.json");
      const verifier = randomBytes(32).toString("base64url");
      const begin = new URL("https://auth.test/oauth/authorize");
      begin.search = `${new URLSearchParams({
        response_type: "code",
        client_id: clientId,
        redirect_uri: at("client", "/callback"),
        resource: "https://mcp.test",
        code_challenge: createHash("sha256").update(verifier).digest("base64url"),
        code_challenge_method: "S256",
        state: "s",
      })}`;
      const end = await browser.agree(await browser.open(begin), () => undefined);
      expect(end.url.searchParams.get("code"), `${end.url.href} ${end.html.slice(0, 2000)}`).not.toBeNull();
      const assertion = {
        iss: clientId,
        sub: clientId,
        aud: "https://auth.test",
        jti: randomBytes(9).toString("hex"),
      };
      const redeemed = await ours.fetch("https://auth.test/oauth/token", {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: `${new URLSearchParams({
          grant_type: "authorization_code",
          code: end.url.searchParams.get("code") ?? "",
          redirect_uri: at("client", "/callback"),
          code_verifier: verifier,
          resource: "https://mcp.test",
          client_id: clientId,
          client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
          client_assertion: await sign(assertion),
        })}`,
      });
      const tokens = Object(await redeemed.json());
      expect(tokens).toMatchObject({ access_token: expect.any(String) });

      const check = (token: string) =>
        peer.check("mcp.test", { authorization: `Bearer ${token}` }, { context: { route: "tools" } });
      // The upstream's token expires after a second.
      await expect
        .poll(async () => (await check(tokens.access_token)).set.authorization, {
          timeout: 20_000,
          interval: 200,
        })
        .toBe("Bearer upstream-2");
      // A user of the trusted issuer, who has not connected.
      await check(await sign({ iss: at("trust"), sub: "robot", aud: "https://mcp.test" }));
      // The provider's keys: an ID token comes from the provider itself, a logout token may come from anyone.
      const logout = {
        iss: at("id"),
        sub: "bob",
        aud: "gateway",
        jti: randomBytes(9).toString("hex"),
        events: { "http://schemas.openid.net/event/backchannel-logout": {} },
      };
      const logoutResponse = await ours.fetch("https://auth.test/.pomerium/sign_in/back_channel_logout", {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: `${new URLSearchParams({ logout_token: await sign(logout, "logout+jwt") })}`,
      });
      expect(logoutResponse.status).toBe(200);
      const portal = await browser.open("https://auth.test/.pomerium/routes");
      await browser.submit(
        { ...portal, url: new URL("https://auth.test/.pomerium/routes/disconnect") },
        { route: "tools" },
      );

      for (const call of [
        "vault.world.test/v1/transit/datakey/plaintext/mcp",
        "sts.world.test/v1/token",
        `gkms.world.test/v1/${google.key}:encrypt`,
        "akms.world.test/",
        "id.world.test/.well-known/openid-configuration",
        "id.world.test/id/token",
        "id.world.test/id/keys",
        "id.world.test/id/userinfo",
        "client.world.test/client.json",
        "client.world.test/client/keys",
        "trust.world.test/trust/keys",
        "tools.world.test/mcp",
        "tools.world.test/.well-known/oauth-protected-resource/mcp",
        "as.world.test/.well-known/oauth-authorization-server",
        "as.world.test/as/register",
        "as.world.test/as/token",
        "as.world.test/as/revoke",
      ])
        await expect.poll(() => calls, { timeout: 60_000, message: call }).toContain(call);
      const grants = scripted.seen
        .filter(({ path }) => path === "/as/token")
        .map(({ form }) => form.get("grant_type"));
      expect(grants).toEqual(["authorization_code", "refresh_token"]);
      expect(new Set(asked.map(({ target }) => target))).toEqual(
        new Set([...behind.keys()].map((host) => `${host}:443`)),
      );
    } finally {
      for (const close of closers) await close();
    }
  });

  /** Responses of all servers; `nonces` are those of authorization requests. */
  async function scriptWorld(scripted: ScriptedServer) {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const keys = { body: { keys: [{ ...(await exportJWK(publicKey)), alg: "ES256", kid: "k" }] } };
    const sign = (claims: JWTPayload, typ = "JWT") =>
      new SignJWT(claims)
        .setProtectedHeader({ alg: "ES256", kid: "k", typ })
        .setIssuedAt()
        .setExpirationTime("2m")
        .sign(privateKey);
    const nonces: string[] = [];
    scripted.on("/.well-known/openid-configuration", {
      body: {
        issuer: at("id"),
        authorization_endpoint: at("id", "/authorize"),
        token_endpoint: at("id", "/id/token"),
        jwks_uri: at("id", "/id/keys"),
        userinfo_endpoint: at("id", "/id/userinfo"),
        response_types_supported: ["code"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["ES256"],
      },
    });
    scripted.on("/id/token", async () => ({
      body: {
        access_token: "of the provider",
        token_type: "Bearer",
        expires_in: 3600,
        id_token: await sign({ iss: at("id"), sub: "alice", aud: "gateway", nonce: nonces[0] }),
      },
    }));
    scripted.on("/id/userinfo", { body: { sub: "alice", name: "Alice" } });
    for (const path of ["/id/keys", "/client/keys", "/trust/keys"]) scripted.on(path, keys);
    scripted.on("/client.json", {
      body: {
        client_id: at("client", "/client.json"),
        client_name: "Editor",
        redirect_uris: [at("client", "/callback")],
        token_endpoint_auth_method: "private_key_jwt",
        token_endpoint_auth_signing_alg: "ES256",
        jwks_uri: at("client", "/client/keys"),
      },
    });
    const metadata = at("tools", "/.well-known/oauth-protected-resource/mcp");
    scripted.on("/mcp", {
      status: 401,
      headers: { "www-authenticate": `Bearer resource_metadata="${metadata}"` },
    });
    scripted.on("/.well-known/oauth-protected-resource/mcp", {
      body: { resource: at("tools", "/mcp"), authorization_servers: [at("as")] },
    });
    scripted.on("/.well-known/oauth-authorization-server", {
      body: {
        issuer: at("as"),
        authorization_endpoint: at("as", "/authorize"),
        token_endpoint: at("as", "/as/token"),
        registration_endpoint: at("as", "/as/register"),
        revocation_endpoint: at("as", "/as/revoke"),
        response_types_supported: ["code"],
        code_challenge_methods_supported: ["S256"],
        token_endpoint_auth_methods_supported: ["none"],
        authorization_response_iss_parameter_supported: true,
      },
    });
    scripted.on("/as/register", { status: 201, body: { client_id: "registered" } });
    let issued = 0;
    scripted.on("/as/token", () => {
      issued += 1;
      return {
        body: {
          access_token: `upstream-${issued}`,
          refresh_token: `refresh-${issued}`,
          token_type: "Bearer",
          expires_in: issued === 1 ? 1 : 3600,
        },
      };
    });
    scripted.on("/as/revoke", { status: 200 });
    return { sign, nonces };
  }
});

describe("Google's credentials for KMS", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "google-"));
    // Anything that uses the environment variables fails.
    for (const name of ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"])
      vi.stubEnv(name, "http://127.0.0.1:1");
    for (const name of ["NO_PROXY", "no_proxy"]) vi.stubEnv(name, "");
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true, force: true });
  });
  const key = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
  /** Calls of the fetch that follows our rules; it responds like all of Google's services. */
  const fetches = () => {
    const urls: string[] = [];
    const fetch: typeof globalThis.fetch = async (input) => {
      const { origin, pathname } = new URL(input instanceof Request ? input.url : input);
      urls.push(`${origin}${pathname}`);
      return Response.json({
        access_token: "t",
        expires_in: 3600,
        token_type: "Bearer",
        accessToken: "t",
        expireTime: new Date(Date.now() + 3_600_000).toISOString(),
        name: `${key}/cryptoKeyVersions/1`,
        ciphertext: "Yw==",
      });
    };
    return { urls, fetch };
  };
  const encrypt = `https://cloudkms.googleapis.com/v1/${key}:encrypt`;
  const refreshed = "https://oauth2.googleapis.com/token";
  const impersonated =
    "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p.test:generateAccessToken";
  const user = { type: "authorized_user", client_id: "c", client_secret: "s", refresh_token: "r" };

  it.each([
    ["a person's (gcloud)", () => user, [refreshed]],
    [
      "a service account's",
      () => ({
        type: "service_account",
        client_email: "a@p.test",
        private_key: generateKeyPairSync("rsa", {
          modulusLength: 2048,
          publicKeyEncoding: { type: "spki", format: "pem" },
          privateKeyEncoding: { type: "pkcs8", format: "pem" },
        }).privateKey,
      }),
      ["https://oauth2.googleapis.com/token"],
    ],
    [
      "impersonated",
      () => ({
        type: "impersonated_service_account",
        source_credentials: user,
        service_account_impersonation_url: impersonated,
      }),
      [refreshed, impersonated],
    ],
    [
      "of a workload identity, impersonating",
      () => ({
        type: "external_account",
        audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
        subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
        token_url: "https://sts.googleapis.com/v1/token",
        service_account_impersonation_url: impersonated,
        credential_source: { file: join(folder, "credentials.json") },
      }),
      ["https://sts.googleapis.com/v1/token", impersonated],
    ],
  ])("%s: every call follows our own rules", async (_kind, made, expected) => {
    const file = join(folder, "credentials.json");
    await writeFile(file, JSON.stringify(made()));
    vi.stubEnv("GOOGLE_APPLICATION_CREDENTIALS", file);
    const { urls, fetch } = fetches();
    await googleKmsKeys({ kid: "k", googleKms: { key } }, { fetch });
    expect(urls).toEqual([...expected, encrypt]);
  });

  it("of a machine at Google: its metadata service is called directly", async () => {
    const metadata = await scriptedServer();
    const headers = { "metadata-flavor": "Google" };
    metadata.on("/computeMetadata/v1/instance", { headers, body: "yes" });
    metadata.on("/computeMetadata/v1/instance/service-accounts/default/token", {
      headers,
      body: { access_token: "t", expires_in: 3600, token_type: "Bearer" },
    });
    vi.stubEnv("GOOGLE_APPLICATION_CREDENTIALS", "");
    vi.stubEnv("CLOUDSDK_CONFIG", folder);
    vi.stubEnv("METADATA_SERVER_DETECTION", "assume-present");
    vi.stubEnv("GCE_METADATA_HOST", metadata.host);
    try {
      const { urls, fetch } = fetches();
      await googleKmsKeys({ kid: "k", googleKms: { key } }, { fetch });
      expect(urls).toEqual([encrypt]);
      expect(metadata.paths()).toContain("/computeMetadata/v1/instance/service-accounts/default/token");
    } finally {
      await metadata.close();
    }
  });
});

describe("which proxy is used for a URL", () => {
  const proxies = readEgressProxies(
    {},
    {
      HTTPS_PROXY: "proxy.example.com:3128",
      https_proxy: "",
      http_proxy: "http://lower.example.com",
      HTTP_PROXY: "http://upper.example.com",
      NO_PROXY:
        "corp.example.com, .sub.test *.wild.test,10.0.0.0/8,192.0.2.7,only.test:8443,[2001:db8::1]:443",
    },
  );
  it.each([
    ["https://as.example.test/", "http://proxy.example.com:3128"],
    ["http://as.example.test/", "http://lower.example.com"],
    ["https://corp.example.com/", undefined],
    ["https://a.corp.example.com/", undefined],
    ["https://notcorp.example.com/", "http://proxy.example.com:3128"],
    ["https://CORP.example.com./", undefined],
    ["https://a.sub.test/", undefined],
    ["https://wild.test/", "http://proxy.example.com:3128"],
    ["https://a.wild.test/", undefined],
    ["https://10.2.3.4/", undefined],
    ["https://192.0.2.7/", undefined],
    ["https://192.0.2.8/", "http://proxy.example.com:3128"],
    ["https://only.test:8443/", undefined],
    ["https://only.test/", "http://proxy.example.com:3128"],
    ["https://[2001:db8::1]/", undefined],
    ["https://localhost/", undefined],
    ["https://a.localhost/", undefined],
    ["https://127.8.8.8/", undefined],
    ["https://[::1]/", undefined],
    ["https://[::ffff:127.0.0.1]/", undefined],
  ])("%s: %s", (url, expected) => {
    expect(proxyFor(new URL(url), proxies)).toBe(expected);
  });

  it.each([
    ["amazonaws.com"],
    ["amazonaws.com:443"],
    [".amazonaws.com"],
    ["*.AMAZONAWS.com"],
    ["kms.eu-central-1.amazonaws.com"],
  ])("AWS's library follows the same rules: %s", async (entry) => {
    const proxy = proxyEnvironment({ https: "http://127.0.0.1:1", noProxy: [entry] });
    const agent = new Agent({ proxyEnv: { ...proxy } });
    // Nothing listens at either: the one that refuses the connection shows which was used.
    const refusal = (host: string) =>
      new Promise<string>((resolve) =>
        httpsRequest({
          host,
          port: 443,
          agent,
          lookup: (_name, _options, done) => done(null, [{ address: "127.0.0.2", family: 4 }]),
        })
          .on("error", (error) => resolve(String(Object(error).address)))
          .end(),
      );
    expect(await refusal("kms.eu-central-1.amazonaws.com")).toBe("127.0.0.2");
    expect(await refusal("kms.notamazonaws.com")).toBe("127.0.0.1");
  });

  it.each([
    ["in the file", "egress: {https_proxy: 'socks5://user:hunter2@proxy.test:1080'}\n", {}],
    ["in the environment", "", { HTTPS_PROXY: "socks5://user:hunter2@proxy.test:1080" }],
  ])("a value that is not an http proxy is an error, %s, and is not shown", (_where, text, env) => {
    const problems = problemsOf(`${text}issuer: https://auth.test\nroutes: []\n`, env).join("\n");
    expect(problems).toMatch(/error egress.*HTTPS_PROXY.*not an http or https URL -> .*SOCKS/);
    expect(problems).not.toContain("hunter2");
  });

  it("check-config warns about a server of the file that cannot be reached through it", () => {
    const file = `issuer: https://auth.test
egress: {https_proxy: "http://proxy.test:3128", no_proxy: [direct.example.com]}
routes:
  - {from: "https://a.test", to: "https://tools.example.com:8443/mcp", mcp: {server: {}}}
  - {from: "https://b.test", to: "https://direct.example.com:8443/mcp", mcp: {server: {}}}
  - {from: "https://c.test", to: "https://vault.tools.svc:8443/mcp", mcp: {server: {}}}
  - {from: "https://d.test", to: "https://tools.example.com/mcp", mcp: {server: {}}}
`;
    const warnings = problemsOf(file).filter((problem) => problem.includes("proxy"));
    expect(warnings).toEqual([
      expect.stringMatching(
        /warning routes\[0\].to: .*port 443 only -> add tools.example.com to egress.no_proxy/,
      ),
    ]);
  });

  it("the routes file takes precedence over the environment; `*` matches everything; without either there is none", () => {
    const env = { HTTPS_PROXY: "http://env.test", NO_PROXY: "a.test" };
    const url = new URL("https://a.test/");
    expect(proxyFor(url, readEgressProxies({}, env))).toBeUndefined();
    const file = { https_proxy: "http://file.test", no_proxy: [] };
    expect(proxyFor(url, readEgressProxies(file, env))).toBe("http://file.test");
    expect(proxyFor(url, readEgressProxies({ no_proxy: ["*"] }, env))).toBeUndefined();
    expect(proxyFor(url, readEgressProxies({}, {}))).toBeUndefined();
  });
});
