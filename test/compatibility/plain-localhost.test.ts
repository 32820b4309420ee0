import { readFile } from "node:fs/promises";
import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Browser, BrowserContext } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { browser as launch } from "../../dev/demo/browser.ts";
import { freePort } from "../../dev/demo/free-port.ts";
import { type Listener, listen } from "../../dev/demo/listen.ts";
import { mcpClient } from "../../dev/demo/mcp-client.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { httpBrowser } from "../support/http-browser.ts";
import { loginsOfAlice, passForeignPages } from "../system/browser/walk.ts";

/** Everything at `http://localhost:PORT`, without certificates. */
describe("A deployment on http://localhost", () => {
  let stack: E2e;
  let chromium: Browser;
  let context: BrowserContext;
  let application: Listener;
  let origin: string;
  let app: string;
  const seen: { authorization?: string; cookie?: string }[] = [];

  beforeAll(async () => {
    application = await listen((request, response) => {
      seen.push(request.headers);
      response.writeHead(200, { "content-type": "text/html" });
      response.end("<!doctype html><title>App</title><h1>The application</h1>");
    });
    const port = await freePort();
    origin = `http://localhost:${port}`;
    app = `http://app.localhost:${port}`;
    stack = await startE2e({
      urls: { issuer: origin, everything: `${origin}/everything`, open: `${origin}/open` },
      config: (config) => {
        const { tls: _, ...envoy } = config.envoy as Record<string, unknown>;
        const well_known = { "security.txt": "Contact: mailto:security@example.com\n" };
        config.routes.push({ id: "app", from: app, to: application.url, well_known, mcp: { client: {} } });
        const open = config.routes.find(({ id }) => id === "open");
        Object.assign(open ?? {}, {
          well_known: {
            "openai-apps-challenge": "abc-123",
            "mcp/server-card.json": { name: "Open", tools: [] },
          },
        });
        return { ...config, envoy };
      },
    });
    chromium = await launch({ publicKeyHash: stack.ca.publicKeyHash });
    context = await chromium.newContext();
  }, 240_000);
  afterAll(async () => {
    await chromium?.close();
    await stack?.close();
    await application?.close();
  });

  /** Node resolves `app.localhost` by DNS; browsers do not. */
  function askApp(path: string, headers: Record<string, string>): Promise<{ status: number; body: string }> {
    const { port, host } = new URL(app);
    return new Promise((resolve, reject) => {
      const sent = request({ host: "127.0.0.1", port, path, headers: { host, ...headers } }, (answer) => {
        text(answer).then((body) => resolve({ status: answer.statusCode ?? 0, body }), reject);
      });
      sent.once("error", reject).end();
    });
  }

  it("connects an MCP client through sign-in, consent and the upstream's consent in Chromium", async () => {
    const client = await mcpClient({
      url: stack.urls.everything,
      fetch,
      async browse(location) {
        const page = await context.newPage();
        await page.goto(location.href);
        await passForeignPages(page, loginsOfAlice(stack));
        await page.getByRole("button", { name: "Allow" }).click();
        await page.waitForLoadState("load");
        await passForeignPages(page, loginsOfAlice(stack));
        await page.waitForURL((url) => url.pathname === "/callback");
        await page.close();
      },
    });
    try {
      const connected = await client.connect();
      expect((await connected.listTools()).tools.length).toBeGreaterThan(0);
      expect(client.authorizations()).toBe(1);
    } finally {
      await client.close();
    }
  });

  it("hands an application's session over to its host, with cookies that every browser keeps there", async () => {
    const page = await context.newPage();
    await page.goto(`${app}/`);
    await passForeignPages(page, loginsOfAlice(stack));
    await page.waitForURL(`${app}/`);
    expect(await page.locator("h1").innerText()).toBe("The application");
    expect(seen.at(-1)?.authorization).toMatch(/^Bearer /);
    expect(seen.at(-1)?.cookie ?? "").not.toContain("mcp_");
    const cookies = await context.cookies();
    const ours = cookies.filter(({ name }) => name.includes("mcp_"));
    expect(ours.map(({ name }) => name)).toContain("mcp_session");
    for (const cookie of ours)
      expect(cookie).toMatchObject({ secure: false, httpOnly: true, sameSite: "Lax" });
  });

  it("passes an application's cookies unchanged, in UTF-8, and none of the gateway's", async () => {
    const [session] = (await context.cookies(app)).filter(({ name }) => name === "mcp_session");
    const utf8 = (text: string) => Buffer.from(text).toString("latin1");
    const ours = `mcp_session=${session?.value}`;
    const send = async (cookie: string) => {
      const headers = { cookie, "user-agent": utf8("naïve/1"), "x-city": utf8("São Paulo") };
      return (await askApp("/", headers)).status;
    };
    expect(await send(`city=${utf8("à")}; ${ours}; name=${utf8("São Paulo")}`)).toBe(200);
    expect(seen.at(-1)?.cookie).toBe(utf8("city=à; name=São Paulo"));
    expect(seen.at(-1)).toMatchObject({ "user-agent": utf8("naïve/1"), "x-city": utf8("São Paulo") });
    // Latin-1 cannot be sent as text: only that cookie is omitted.
    expect(await send(`latin=\u00e3; ${ours}; plain=1`)).toBe(200);
    expect(seen.at(-1)?.cookie).toBe("plain=1");
  });

  it("serves the fixed texts of its routes without authentication, and nothing else", async () => {
    const challenge = await fetch(`${origin}/.well-known/openai-apps-challenge?x=1`);
    expect([challenge.status, await challenge.text()]).toEqual([200, "abc-123"]);
    const headers = Object.fromEntries(challenge.headers);
    expect(headers).toMatchObject({
      "content-type": "text/plain; charset=utf-8",
      "x-content-type-options": "nosniff",
      "content-security-policy": "default-src 'none'",
      "access-control-allow-origin": "*",
    });
    expect(Object.keys(headers)).not.toContain("www-authenticate");
    const card = await fetch(`${origin}/.well-known/mcp/server-card.json`);
    expect(card.headers.get("content-type")).toBe("application/json");
    expect(await card.json()).toEqual({ name: "Open", tools: [] });
    const before = seen.length;
    const { body } = await askApp("/.well-known/security.txt", {});
    expect(body).toBe("Contact: mailto:security@example.com\n");
    expect(seen.length).toBe(before);
    const head = await fetch(`${origin}/.well-known/openai-apps-challenge`, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    for (const path of [
      "openai-apps-challenge/",
      "openai-apps-challengex",
      "security.txt",
      "OPENAI-apps-challenge",
    ])
      expect((await fetch(`${origin}/.well-known/${path}`)).status, path).toBe(404);
    expect((await fetch(`${origin}/.well-known/openai-apps-challenge`, { method: "POST" })).status).toBe(404);
  });

  it("keeps users signed in without Chromium's exceptions for localhost, too", async () => {
    const browser = httpBrowser({ fetch });
    const portal = `${origin}/.pomerium/routes`;
    const metadata = "/.well-known/oauth-authorization-server";
    const start = await browser.open(`${origin}/.pomerium/sign_in?return_to=${metadata}`);
    const end = await browser.agree(start, stack.signIn("bob"));
    expect(end.url.pathname).toBe(metadata);
    const page = await browser.open(portal);
    expect([page.url.href, page.status]).toEqual([portal, 200]);
    expect((await browser.jar.getCookies(portal)).map(({ secure }) => secure)).not.toContain(true);
  });

  it("uses http://localhost everywhere: issuer, resource, challenge, and the headers that Envoy sends to upstreams", async () => {
    const challenge = (await fetch(`${origin}/open`, { method: "POST" })).headers.get("www-authenticate");
    expect(challenge).toContain(`resource_metadata="${origin}/.well-known/oauth-protected-resource/open"`);
    const resource = await (await fetch(`${origin}/.well-known/oauth-protected-resource/open`)).json();
    expect(resource).toMatchObject({ resource: `${origin}/open`, authorization_servers: [origin] });
    const preflight = await fetch(`${origin}/oauth/token`, {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,traceparent",
      },
    });
    expect(preflight.headers.get("access-control-allow-headers")).toMatch(/Content-Type.*traceparent/);
    const metadata = (await (
      await fetch(`${origin}/.well-known/oauth-authorization-server`)
    ).json()) as object;
    expect(metadata).toMatchObject({ issuer: origin, token_endpoint: `${origin}/oauth/token` });
  });

  it("listens on loopback only, for these hosts only, and for nothing with TLS", async () => {
    const bootstrap = await readFile(join(stack.configFile, "../envoy.yaml"), "utf8");
    expect(bootstrap).not.toContain("DownstreamTlsContext");
    const [, port = ""] = /:(\d+)$/.exec(origin) ?? [];
    const other = await fetch(`http://127.0.0.1:${port}/open`);
    expect(other.status).toBe(404);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // Another address of this machine.
    const socket = connect({ host: "127.0.0.2", port: Number(port) }, () => resolve());
    socket.once("error", reject);
    await expect(promise).rejects.toThrow(/ECONNREFUSED/);
    socket.destroy();
  });
});
