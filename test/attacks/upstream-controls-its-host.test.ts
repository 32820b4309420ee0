import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { browser as launch } from "../../dev/demo/browser.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { bytesThroughEnvoy, throughEnvoy } from "../support/through-envoy.ts";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const planted = [
  "__Host-mcp_session=planted; Path=/; Secure; HttpOnly; SameSite=Lax",
  "__Secure-mcp_x=planted; Domain=test; Path=/; Secure",
  "mcp_session=planted; Domain=test; Path=/",
  "__host-MCP_session=planted; Path=/; Secure",
  "  \t__Host-mcp_session=planted; Path=/; Secure",
  "=__Host-mcp_session=planted; Path=/; Secure",
  "= mcp_session=planted; Path=/",
  '"__Host-mcp_session"=planted; Path=/; Secure',
  "__Host-mcp_session = planted; Path=/; Secure",
  "__Host-mcp_consent_AAAAAAAAAAAAAAAA=planted; Path=/; Secure",
];
const foreign = [
  "theme=dark; Path=/",
  "note=mcp_session; Path=/",
  "__Host-app=1; Path=/; Secure",
  "x_mcp_y=2; Path=/",
];
const script = `<script>document.documentElement.setAttribute("data-ran", "yes"); document.cookie = "__Host-mcp_session=planted; Path=/; Secure"; fetch("/oauth/authorize")</script>`;

describe("an upstream uses its responses against its host", () => {
  const servers: Server[] = [];
  let answerOfApplication: Handler = (_request, response) => response.end();
  let answerOfMcpServer: Handler = (_request, response) => response.end();
  let stack: E2e;
  let chromium: Browser;
  let token: string;

  async function upstream(handler: Handler): Promise<string> {
    const server = createServer(handler);
    servers.push(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  /** The part of MCP that a client needs to connect. */
  const mcpServer: Handler = async (request, response) => {
    if (request.method !== "POST") return answerOfMcpServer(request, response);
    const { id } = JSON.parse(await text(request));
    if (id === undefined) return response.writeHead(202).end();
    const result = {
      protocolVersion: "2025-06-18",
      capabilities: {},
      serverInfo: { name: "evil", version: "1" },
    };
    response
      .writeHead(200, { "content-type": "application/json" })
      .end(JSON.stringify({ jsonrpc: "2.0", id, result }));
  };

  beforeAll(async () => {
    const application = await upstream((request, response) => answerOfApplication(request, response));
    const evil = await upstream(mcpServer);
    stack = await startE2e({
      names: ["app.test"],
      config: (config) => ({
        ...config,
        routes: [
          ...config.routes,
          { id: "app", from: "https://app.test", to: application, mcp: { client: {} } },
          {
            id: "evil",
            from: "https://auth.test/evil",
            to: evil,
            mcp: { server: { upstream_auth: "none" } },
          },
        ],
      }),
    });
    token = await stack.externalToken("alice", "https://auth.test/evil");
    chromium = await launch({ publicKeyHash: stack.ca.publicKeyHash, resolve: stack.resolve });
  });
  afterAll(async () => {
    await chromium?.close();
    await stack?.close();
    for (const server of servers) server.close().closeAllConnections();
  });

  /** Alice's session cookie on the application's host. */
  async function signedIn(): Promise<string> {
    answerOfApplication = (_request, response) => response.end("hello");
    const browser = stack.browser("alice");
    const signIn = await browser.open("https://app.test/.pomerium/sign_in?return_to=/");
    await browser.agree(signIn, stack.signIn("alice"));
    return browser.jar.getCookieString("https://app.test/");
  }
  const askMcpServer = (headers: Record<string, string> = {}, path = "/evil/page") =>
    throughEnvoy(stack, {
      url: `https://auth.test${path}`,
      headers: { authorization: `Bearer ${token}`, ...headers },
    });

  it("an application sets one of the gateway's cookies: it is dropped, and its own cookies pass unchanged", async () => {
    const cookie = await signedIn();
    answerOfApplication = (_request, response) => {
      const all = [...foreign.slice(0, 2), ...planted, ...foreign.slice(2)];
      response.writeHead(
        200,
        all.flatMap((one, index) => [index % 2 === 0 ? "Set-Cookie" : "SET-COOKIE", one]),
      );
      response.end("hello");
    };
    const answer = await throughEnvoy(stack, { url: "https://app.test/", headers: { cookie } });
    expect([answer.status, answer.body]).toEqual([200, "hello"]);
    expect(answer.headers.filter(([name]) => name === "set-cookie").map(([, value]) => value)).toEqual(
      foreign,
    );
    answerOfApplication = (_request, response) => {
      response.writeHead(200, ["Set-Cookie", planted[0] ?? ""]).end("hello");
    };
    const alone = await throughEnvoy(stack, { url: "https://app.test/", headers: { cookie } });
    expect([alone.status, alone.body, alone.header("set-cookie")]).toEqual([200, "hello", undefined]);
  });

  it("an application sets one in an interim response or a trailer: it is dropped", async () => {
    const cookie = await signedIn();
    answerOfApplication = (_request, response) => {
      response.writeEarlyHints({ link: "</a.css>; rel=preload; as=style", "set-cookie": planted[0] ?? "" });
      response.writeHead(200, { trailer: "Set-Cookie" });
      response.write("hello");
      response.addTrailers({ "set-cookie": planted[0] ?? "" });
      response.end();
    };
    const request = `GET / HTTP/1.1\r\nHost: app.test\r\nCookie: ${cookie}\r\nTE: trailers\r\nConnection: close\r\n\r\n`;
    const bytes = await bytesThroughEnvoy(stack, "app.test", request);
    expect(bytes).toContain("hello");
    expect(bytes).not.toContain("planted");
  });

  it("an MCP server sets cookies and headers that change how browsers treat the host: none arrives", async () => {
    const dropped = {
      "clear-site-data": '"*"',
      "service-worker-allowed": "/",
      refresh: "0; url=https://evil.test/",
      link: "</evil/x.css>; rel=preload; as=style",
      "alt-svc": 'h3="evil.test:443"',
      "strict-transport-security": "max-age=0",
      "public-key-pins": "max-age=1",
      "secure-session-registration": '(ES256);path="/evil/start"',
      nel: "{}",
      "report-to": "{}",
      "reporting-endpoints": 'a="https://evil.test/"',
      "access-control-allow-credentials": "true",
      "content-security-policy-report-only": "default-src 'none'; report-uri https://evil.test/",
    };
    answerOfMcpServer = (_request, response) => {
      response.writeHead(200, [
        ...[...planted, ...foreign].flatMap((one) => ["Set-Cookie", one]),
        ...Object.entries({
          ...dropped,
          "content-type": "text/html",
          "content-security-policy": "sandbox allow-scripts allow-same-origin",
          "access-control-allow-origin": "https://evil.test",
          "x-own": "kept",
        }).flat(),
      ]);
      response.end("hello");
    };
    const answer = await askMcpServer();
    expect([answer.status, answer.body, answer.header("x-own")]).toEqual([200, "hello", "kept"]);
    const names = answer.headers.map(([name]) => name);
    expect(names.filter((name) => name === "set-cookie" || name in dropped)).toEqual([]);
    expect(answer.headers.filter(([name]) => name === "content-security-policy")).toEqual([
      ["content-security-policy", "sandbox; default-src 'none'; frame-ancestors 'none'"],
    ]);
    expect(answer.header("x-content-type-options")).toBe("nosniff");
    expect(answer.header("access-control-allow-origin")).toBe("*");
  });

  it("an MCP server serves a service worker: the request is denied", async () => {
    answerOfMcpServer = (_request, response) => {
      response
        .writeHead(200, { "content-type": "text/javascript", "service-worker-allowed": "/" })
        .end("self");
    };
    const answer = await askMcpServer({ "service-worker": "script", "sec-fetch-dest": "serviceworker" });
    expect([answer.status, JSON.parse(answer.body).error]).toEqual([403, "service_worker"]);
  });

  it.each([
    ["text/html", `<!doctype html><body>${script}</body>`],
    [
      "application/xhtml+xml",
      `<html xmlns="http://www.w3.org/1999/xhtml"><body>${script.replaceAll("&", "&amp;")}</body></html>`,
    ],
    ["image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg">${script}</svg>`],
    ["text/plain", `<!doctype html><body>${script}</body>`],
    [undefined, `<!doctype html><body>${script}</body>`],
  ])(
    "an MCP server on the issuer's host responds to %s with a script: it does not run in Chromium",
    async (type, body) => {
      answerOfMcpServer = (_request, response) => {
        response
          .writeHead(200, { ...(type && { "content-type": type }), "set-cookie": [...planted, ...foreign] })
          .end(body);
      };
      const context = await chromium.newContext();
      try {
        const page = await context.newPage();
        const requests: string[] = [];
        page.on("request", (request) => requests.push(new URL(request.url()).pathname));
        // A browser does not have a token: in the worst case, an attacker makes it send one.
        await context.setExtraHTTPHeaders({ authorization: `Bearer ${token}` });
        const answer = await page.goto("https://auth.test/evil/page");
        expect(answer?.status()).toBe(200);
        expect(await page.evaluate(() => document.documentElement.getAttribute("data-ran"))).toBeNull();
        expect(requests).toEqual(["/evil/page"]);
        expect(await context.cookies()).toEqual([]);
      } finally {
        await context.close();
      }
    },
  );
});
