import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browser as launch } from "../../dev/demo/browser.ts";
import { certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { type Listener, listen } from "../../dev/demo/listen.ts";
import { appOf, type McpApp, people, registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import { faultsOf, logo, missingPictures, violations } from "../system/browser/pictures.ts";
import { passForeignPages } from "../system/browser/walk.ts";

let stack: AuthorizationServerStack;
let server: Server;
let chromium: Browser;
let client: Listener;
let app: McpApp;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pages-"));
  const authority = await certificateAuthority(folder, ["*.test"]);
  stack = await startAuthorizationServer();
  const [cert, key] = await Promise.all([
    readFile(authority.files.certificate),
    readFile(authority.files.key),
  ]);
  server = createServer({ cert, key }, stack.handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  chromium = await launch({
    publicKeyHash: authority.publicKeyHash,
    resolve: { "*.test": `127.0.0.1:${port}` },
  });
  client = await listen((_request, response) => response.end("the client has its answer"));
  app = await registeredApp(stack, {
    client_name: "Desk app",
    redirect_uris: [`${client.url}/client-callback`, "desk-app://callback"],
  });
});
afterAll(async () => {
  await chromium?.close();
  server?.closeAllConnections();
  server?.close();
  await client?.close();
  await stack?.close();
  await rm(folder, { recursive: true, force: true });
});

async function consentPage(
  options: Parameters<Browser["newPage"]>[0] = {},
  redirectUri?: string,
): Promise<Page> {
  const page = await chromium.newPage(options);
  const redirect_uri = redirectUri ?? `${client.url}/client-callback`;
  await page.goto(app.request({ redirect_uri, scope: "mcp files:read", prompt: "consent" }).url.href);
  await passForeignPages(page, new Map([[stack.company.issuer, people.alice]]));
  return page;
}

describe("the consent page in Chromium", () => {
  test.each(["light", "dark"] as const)(
    "has no accessibility violations, %s, on a phone",
    async (colorScheme) => {
      const page = await consentPage({ colorScheme, viewport: { width: 360, height: 740 }, bypassCSP: true });
      expect(await violations(page)).toEqual([]);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
      expect(overflow).toBe(false);
      await page.close();
    },
  );

  test("is styled under its own policy, works without JavaScript, and redirects to a loopback client", async () => {
    const page = await consentPage({ javaScriptEnabled: false });
    const styled = await page.locator("main").evaluate((main) => getComputedStyle(main).borderRadius);
    expect(styled).not.toBe("0px");
    await page.getByRole("button", { name: "Allow" }).click();
    await page.waitForURL(`${client.url}/client-callback?*`);
    expect(new URL(page.url()).searchParams.get("code")).toBeTruthy();
    await page.close();
  });

  test("redirects to an app's own scheme", async () => {
    const page = await consentPage({}, "desk-app://callback");
    const violationsOfPolicy: string[] = [];
    page.on("console", (message) => violationsOfPolicy.push(message.text()));
    const [request] = await Promise.all([
      page.waitForEvent("requestfailed", (one) => one.url().startsWith("desk-app://")),
      page.getByRole("button", { name: "Allow" }).click(),
    ]);
    expect(violationsOfPolicy.filter((text) => text.includes("Content Security Policy"))).toEqual([]);
    expect(request.url()).toContain("code=");
    await page.close();
  });

  test("cannot be framed", async () => {
    const page = await consentPage();
    const inside = page.url();
    await page.goto("https://one.test/whoami");
    await page.setContent(`<iframe src="${inside}"></iframe>`);
    await expect.poll(() => page.frames().at(-1)?.url()).toMatch(/^chrome-error:/);
    await page.close();
  });
});

test.each([
  ["error", () => appOf(stack, "nobody").request().url.href],
  ["signed out", () => "https://auth.test/.pomerium/sign_out"],
])("the %s page has no accessibility violations", async (_name, url) => {
  const page = await chromium.newPage({ bypassCSP: true });
  await page.goto(url());
  expect(await violations(page)).toEqual([]);
  await page.close();
});

describe("an aggregated route in Chromium", () => {
  const names = ["consent-members", "connect-members", "connections-members"] as const;

  test("its consent page, the page that connects members, and the portal: pictures, and no accessibility violations", async () => {
    const tokens = "token_url: https://accounts.test/token";
    await stack.reload(
      (current) => `${current}
  - from: https://library.test
    to: http://library.internal:8080/mcp
    id: library
    name: Design library
    description: Components, tokens and review notes
    mcp: {server: {upstream_oauth2: {client_id: c, scopes: [read], endpoint: {auth_url: https://accounts.test/authorize, ${tokens}}}}}
    policy: [{allow: {and: [{accept: true}]}}]
  - from: https://tickets.test
    to: http://tickets.internal:8080/mcp
    id: tickets
    name: Tickets
    description: Bugs and requests of all teams
    mcp: {server: {upstream_oauth2: {client_id: c, scopes: [read, write], endpoint: {auth_url: https://tickets.test/authorize, ${tokens}}}}}
    policy: [{allow: {and: [{accept: true}]}}]
  - from: https://measurements.test
    to: http://measurements.internal:8080/mcp
    id: measurements
    name: Measurements
    description: Figures of the last night's runs
    logo_url: https://logos.test/m.svg
    mcp: {server: {upstream_auth: none}}
    policy: [{allow: {and: [{accept: true}]}}]
  - from: https://all.test
    id: all
    name: Everything at once
    description: All servers of the company behind one address
    mcp: {aggregate: {routes: [library, tickets, measurements]}}
    policy: [{allow: {and: [{accept: true}]}}]
`,
    );
    for (const id of ["one", "many-a", "many-b"]) stack.denied.add(`company/alice ${id}`);
    for (const id of ["library", "tickets"]) stack.connections.set(`company/alice ${id}`, "missing");
    const context = await chromium.newContext({ javaScriptEnabled: true, bypassCSP: true });
    await context.route("https://logos.test/**", (route) =>
      route.fulfill({ contentType: "image/svg+xml", body: logo }),
    );
    const page = await context.newPage();
    const redirect_uri = `${client.url}/client-callback`;
    await page.goto(app.request({ redirect_uri, resource: "https://all.test" }).url.href);
    await passForeignPages(page, new Map([[stack.company.issuer, people.alice]]));
    const faults = [await faultsOf("consent-members", page)];

    await page.getByLabel("Measurements").uncheck();
    await page.getByRole("button", { name: "Allow" }).click();
    stack.connectOutcome = { error: "server_error", beside: { connect_error_reason: "unreachable" } };
    await page.getByRole("button", { name: "Connect Tickets" }).click();
    await page.getByRole("alert").waitFor();
    stack.connectOutcome = "connects";
    faults.push(await faultsOf("connect-members", page));
    await page.getByRole("button", { name: "Connect Design library" }).click();
    await page.getByText("Connected", { exact: true }).waitFor();
    // Going back shows what is connected by now.
    await page.goBack();
    await page.getByText("Connected", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Skip Tickets" }).click();
    await page.waitForURL(`${client.url}/client-callback?*`);
    expect(new URL(page.url()).searchParams.get("code")).toBeTruthy();

    await page.goto("https://auth.test/.pomerium/routes");
    faults.push(await faultsOf("connections-members", page));
    await page.getByRole("button", { name: /^Remove Tickets from Everything/ }).click();
    await page.getByRole("status").waitFor();
    expect(await page.locator(".removable li").allInnerTexts()).toHaveLength(1);
    await context.close();

    expect(faults).toEqual(names.map(() => []));
    expect(names.flatMap(missingPictures)).toEqual([]);
  });
});
