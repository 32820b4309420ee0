import { spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { freePort } from "../../dev/demo/free-port.ts";
import { type Listener, listen } from "../../dev/demo/listen.ts";
import { type LoopbackFetch, loopbackFetch } from "../../dev/demo/loopback-fetch.ts";
import { type McpClient, mcpClient } from "../../dev/demo/mcp-client.ts";
import { supervise } from "../../dev/demo/supervise.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { type HttpBrowser, httpBrowser } from "../support/http-browser.ts";

/** The address that the terminator connects from: the one in the routes file, as in the documentation. */
const terminator = "127.0.0.1";
const somebodyElse = "127.0.0.2";
const caddy = process.env.CADDY_BIN ?? (spawnSync("caddy", ["version"]).status === 0 ? "caddy" : undefined);

describe("A TLS terminator in front of the generated Envoy", () => {
  let stack: E2e;
  let upstream: Listener;
  let outside: LoopbackFetch;
  let browser: HttpBrowser;
  const clients: McpClient[] = [];
  const closers: (() => unknown)[] = [];
  const seen: IncomingMessage["headers"][] = [];

  beforeAll(async () => {
    upstream = await listen((incoming, response) => {
      seen.push(incoming.headers);
      incoming.resume().on("end", () => {
        response.writeHead(200, { "content-type": "application/json" });
        response.end("{}");
      });
    });
    stack = await startE2e({
      names: ["near.test"],
      config: (config) => {
        const server = { upstream_auth: "none" };
        const policy = { allow: { and: [{ source_ip: "203.0.113.0/24" }] } };
        config.routes.push({
          id: "near",
          from: "https://near.test",
          to: upstream.url,
          policy,
          mcp: { server },
        });
        const envoy = { ...(config.envoy as object), tls: { terminated_by: [terminator] } };
        return { ...config, envoy };
      },
    });
    outside = caddy === undefined ? await nodeTerminator() : await caddyTerminator(caddy);
    browser = httpBrowser({ fetch: outside.fetch });
  }, 240_000);
  afterAll(async () => {
    for (const client of clients) await client.close();
    for (const close of closers.reverse()) await close();
    await outside?.close();
    await stack?.close();
    await upstream?.close();
  });

  /** A generic terminator: ends TLS, keeps `Host`, reports the client's address and protocol. */
  async function nodeTerminator(): Promise<LoopbackFetch> {
    const { certificate, key } = stack.ca.files;
    const server = createServer(
      { cert: await readFile(certificate), key: await readFile(key) },
      (incoming, response) => {
        const forwardedFor = [incoming.headers["x-forwarded-for"], incoming.socket.remoteAddress];
        const outgoing = httpRequest(
          {
            host: "127.0.0.1",
            port: stack.envoyPort,
            localAddress: terminator,
            method: incoming.method,
            path: incoming.url,
            headers: {
              ...incoming.headers,
              "x-forwarded-proto": "https",
              "x-forwarded-for": forwardedFor.filter(Boolean).join(", "),
            },
          },
          (answer) => {
            response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
            answer.pipe(response);
            response.flushHeaders();
          },
        );
        outgoing.on("error", () => response.destroy());
        response.on("close", () => outgoing.destroy());
        incoming.pipe(outgoing);
      },
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => {
      server.close();
      server.closeAllConnections();
    });
    return loopbackFetch(stack.ca.ca, (server.address() as AddressInfo).port);
  }

  /** The Caddyfile of docs/recipes.md with our hosts and ports; its certificates come from Caddy's own CA, not from Let's Encrypt. */
  async function caddyTerminator(binary: string): Promise<LoopbackFetch> {
    const [http, https] = [await freePort(), await freePort()];
    const folder = dirname(stack.configFile);
    const hosts = ["auth.test", "everything.test", "open.test", "near.test"];
    const recipes = await readFile(join(import.meta.dirname, "../../docs/recipes.md"), "utf8");
    const [, documented = ""] = /```caddyfile\n(.*?)```/s.exec(recipes) ?? [];
    const ours = documented
      .replace(/^.* \{$/m, `${hosts.join(", ")} {`)
      .replace(/reverse_proxy \S+/, `reverse_proxy 127.0.0.1:${stack.envoyPort}`);
    expect(ours).toContain(`${hosts.join(", ")} {\n  reverse_proxy 127.0.0.1:${stack.envoyPort}`);
    const settings = ["admin off", "local_certs", "skip_install_trust", "default_bind 127.0.0.1"];
    settings.push(`http_port ${http}`, `https_port ${https}`);
    const file = join(folder, "Caddyfile");
    await writeFile(file, `{\n  ${settings.join("\n  ")}\n}\n${ours}`);
    const running = supervise(binary, ["run", "--config", file], {
      logFile: join(folder, "caddy.log"),
      env: { ...process.env, HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder },
    });
    closers.push(() => running.stop());
    return vi.waitFor(
      async () => {
        const ca = await readFile(join(folder, "caddy/pki/authorities/local/root.crt"), "utf8");
        const probe = loopbackFetch(ca, https);
        // Each host's certificate.
        for (const host of hosts)
          await probe.fetch(`https://${host}/`).catch(async (error: unknown) => {
            await probe.close();
            throw error;
          });
        return probe;
      },
      { timeout: 60_000, interval: 100 },
    );
  }

  async function client(url: string): Promise<McpClient> {
    const made = await mcpClient({
      url,
      fetch: outside.fetch,
      browse: async (location) => {
        const page = await browser.agree(await browser.open(location), stack.signIn("alice"));
        if (page.url.pathname !== "/callback")
          throw new Error(`ended at ${page.url.href} (${page.status}): ${page.html.slice(0, 500)}`);
      },
    });
    clients.push(made);
    return made;
  }

  /** One request as the terminator sends it; `from`: another source address. */
  function asTerminator(
    url: string,
    headers: Record<string, string> = {},
    from = terminator,
  ): Promise<{ status: number; headers: IncomingMessage["headers"]; body: string }> {
    const { host, pathname } = new URL(url);
    return new Promise((resolve, reject) => {
      const outgoing = httpRequest(
        {
          host: "127.0.0.1",
          port: stack.envoyPort,
          localAddress: from,
          path: pathname,
          agent: false,
          headers: { host, ...headers },
        },
        (answer) => {
          text(answer).then(
            (body) => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body }),
            reject,
          );
        },
      );
      outgoing.once("error", reject).end();
    });
  }

  it("connects an MCP client through sign-in and both consents, with streams that stay open", async () => {
    const made = await client(stack.urls.everything);
    const connected = await made.connect();
    expect((await connected.listTools()).tools.length).toBeGreaterThan(0);
    expect(made.authorizations()).toBe(1);
  });

  it("has https issuers, resources and cookies, whatever the protocol of the request", async () => {
    const metadata = await outside.fetch("https://auth.test/.well-known/oauth-authorization-server");
    expect(await metadata.json()).toMatchObject({
      issuer: "https://auth.test",
      authorization_endpoint: "https://auth.test/oauth/authorize",
    });
    const challenge = await outside.fetch("https://open.test/", { method: "POST" });
    expect(challenge.status).toBe(401);
    expect(challenge.headers.get("www-authenticate")).toContain(
      'resource_metadata="https://open.test/.well-known/oauth-protected-resource"',
    );
    const start = await outside.fetch("https://auth.test/.pomerium/sign_in?return_to=/", {
      redirect: "manual",
    });
    expect(start.headers.getSetCookie().join()).toMatch(/^__Host-mcp_browser_[^;]+;.*\bsecure\b/i);
  });

  it("trusts the terminator's report of the client's address, and no client's", async () => {
    const made = await client("https://near.test");
    // Policy does not allow its own address, so connecting fails, with a token.
    await made.connect().catch(() => {});
    const authorization = `Bearer ${made.tokens()?.access_token}`;
    const from = (forwarded: string) =>
      asTerminator("https://near.test/x", { authorization, "x-forwarded-for": forwarded });
    expect((await from("203.0.113.7")).status).toBe(200);
    expect(seen.at(-1)).toMatchObject({ "x-forwarded-proto": "https", "x-forwarded-host": "near.test" });
    expect(String(seen.at(-1)?.["x-forwarded-for"])).toMatch(/^203\.0\.113\.7,/);
    expect((await from("198.51.100.1, 203.0.113.7")).status).toBe(200);
    // The client sent the first one itself.
    expect((await from("203.0.113.7, 198.51.100.1")).status).toBe(403);
    const forged = { authorization, "x-forwarded-for": "203.0.113.7", "x-forwarded-host": "open.test" };
    expect((await outside.fetch("https://near.test/x", { headers: forged })).status).toBe(403);
  });

  it("accepts connections from the terminator only", async () => {
    await expect(asTerminator("https://open.test/x", {}, somebodyElse)).rejects.toThrow(
      /socket hang up|ECONNRESET/,
    );
    expect((await asTerminator("https://open.test/x")).status).toBe(401);
  });

  it("redirects requests that the terminator received without TLS to https, before any check", async () => {
    const answer = await asTerminator("https://open.test/x", {
      "x-forwarded-proto": "http",
      authorization: "Bearer secret",
    });
    expect([answer.status, answer.headers.location]).toEqual([308, "https://open.test/x"]);
    const oauth = await asTerminator("https://auth.test/oauth/authorize", { "x-forwarded-proto": "HTTP" });
    expect([oauth.status, oauth.headers.location]).toEqual([308, "https://auth.test/oauth/authorize"]);
    for (const said of ["https", "https, http", "wss"])
      expect((await asTerminator("https://open.test/x", { "x-forwarded-proto": said })).status, said).toBe(
        401,
      );
  });
});
