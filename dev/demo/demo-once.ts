import { strict as assert } from "node:assert";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import type { BrowserContext } from "playwright-core";
import { browser as startBrowser } from "./browser.ts";
import { type McpClient, mcpClient } from "./mcp-client.ts";
import { type Login, person } from "./person.ts";
import type { RecordedRequest } from "./record-requests.ts";
import { type Stack, startStack } from "./stack.ts";
import { everythingAtOnce } from "./stack-config.ts";
import { transcript } from "./transcript.ts";

/*
 * Runs the whole flow once and prints each step: a real MCP client, a real browser, a real Envoy. Database and logs stay in the folder,
 * so that you can search them for tokens.
 */
const folder = process.env.DEMO_FOLDER ?? join(import.meta.dirname, "../../.demo/once");
const log = transcript((line) => process.stdout.write(`${line}\n`));
const begin = performance.now();
const closers: (() => Promise<unknown>)[] = [];

function keep<T extends { close(): Promise<unknown> }>(part: T): T {
  closers.push(() => part.close());
  return part;
}

/** Names of the steps that are requests of the client. */
function nameOf(stack: Stack, method: string, url: URL, body: string): string | undefined {
  if (url.pathname.startsWith("/.well-known/oauth-protected-resource")) return "protected resource metadata";
  if (url.pathname.startsWith("/.well-known/")) return "authorization server metadata";
  if (url.pathname.endsWith("/register")) return "registration";
  if (url.pathname.endsWith("/token")) return "token";
  const isMcp = [stack.urls.everything, stack.urls.open, atOnce(stack)].includes(url.href);
  if (method !== "POST" || !isMcp) return undefined;
  const call: { method?: string; params?: { name?: string } } = JSON.parse(body);
  return call.params?.name ? `${call.method} ${call.params.name}` : call.method;
}

/** A user's accounts at the company and at the upstream. */
interface Accounts {
  readonly company: Login;
  readonly upstream: Login;
}
const alice: Accounts = {
  company: { login: "alice", password: "wonderland" },
  upstream: { login: "ally", password: "looking-glass" },
};
const bob: Accounts = {
  company: { login: "bob", password: "builder" },
  upstream: { login: "bobby", password: "hammer" },
};

function client(stack: Stack, context: BrowserContext, url: string, who = alice, opensLinks = false) {
  const browse = (location: URL, end: (at: URL) => boolean) =>
    person({
      context,
      location,
      transcript: log,
      logins: { [stack.openid.issuer]: who.company, [stack.upstream.issuer]: who.upstream },
      nameOf: (origin, form) =>
        origin === stack.openid.issuer
          ? `${form} at the company`
          : origin === stack.upstream.issuer
            ? `${form} at the upstream`
            : `${form} at the gateway`,
      end,
    });
  return mcpClient({
    url,
    fetch: log.observe(stack.fetch, (method, target, body) => nameOf(stack, method, target, body)),
    browse: (location) =>
      browse(location, (at) => at.hostname === "127.0.0.1" && at.pathname === "/callback"),
    openLink: opensLinks
      ? (link) => browse(new URL(link), (at) => at.pathname.endsWith("/mcp/consent/done"))
      : undefined,
  });
}

/** URL of the aggregated route. */
function atOnce(stack: Stack): string {
  return `${stack.urls.issuer}/all`;
}

/** Another user connects one URL for both servers, and the upstream only when its tools are needed. */
async function useEverythingAtOnce(stack: Stack, context: BrowserContext): Promise<string> {
  const all = keep(await client(stack, context, atOnce(stack), bob, true));
  const session = await all.connect();
  const names = async () => (await session.listTools()).tools.map(({ name }) => name);
  const before = await names();
  assert(before.includes("open__greet"), `tools/list does not list open__greet: ${before.join(", ")}`);
  assert(before.includes("everything__connect"), `no everything__connect: ${before.join(", ")}`);
  await session.callTool({ name: "everything__connect" });
  const after = await names();
  assert(!after.includes("everything__connect"), "everything__connect is still listed");
  const who = await session.callTool({ name: "everything__whoami" });
  assert.deepEqual(who.content, [{ type: "text", text: "bobby" }], "the upstream sees another account");
  return `${after.length} tools of two servers at ${atOnce(stack)}`;
}

async function useEverything(mcp: McpClient): Promise<Client> {
  const session = await mcp.connect();
  const { tools } = await session.listTools();
  assert(
    tools.some(({ name }) => name === "count"),
    "tools/list does not list the tool count",
  );
  const who = await session.callTool({ name: "whoami" });
  assert.deepEqual(who.content, [{ type: "text", text: "ally" }], "the upstream sees another account");
  const arrivals: number[] = [];
  await log.step("streamed answer", async () => {
    const since = performance.now();
    await session.callTool({ name: "count", arguments: { to: 5, interval_ms: 100 } }, undefined, {
      onprogress: () => arrivals.push(Math.round(performance.now() - since)),
    });
    assert.equal(arrivals.length, 5, `${arrivals.length} of 5 progress notifications arrived`);
    const span = (arrivals.at(-1) ?? 0) - (arrivals[0] ?? 0);
    assert(span > 200, "all notifications arrived at once: the stream was buffered");
    return `progress after ${arrivals.join(", ")} ms`;
  });
  return session;
}

/** Checks that neither side sees the other's token. */
async function compare(stack: Stack, mcp: McpClient): Promise<string> {
  const held = mcp.tokens();
  assert(held?.access_token && held.refresh_token, "the client holds no access or refresh token");
  const issued = stack.upstream.issuedTokens();
  assert(issued.length > 0, "the upstream's authorization server issued no token");
  assert(!issued.some((token) => JSON.stringify(held).includes(token)), "the client holds an upstream token");
  // The gateway's own discovery asks the server without a token.
  const isDiscovery = ({ headers }: RecordedRequest) =>
    headers.some(([name, value]) => name === "user-agent" && value.startsWith("envoy-mcp-auth/"));
  const received = stack.everything.requests.filter(
    (request) => request.url === "/mcp" && !isDiscovery(request),
  );
  assert(received.length > 0, "the upstream received nothing");
  for (const request of received) {
    const sent = request.headers.filter(([name]) => name.toLowerCase() === "authorization");
    assert.equal(sent.length, 1, `${sent.length} Authorization headers reached the upstream`);
    assert(issued.includes(String(sent[0]?.[1]).replace(/^Bearer /, "")), "not the upstream's own token");
  }
  const all = JSON.stringify([stack.everything.requests, stack.open.requests]);
  assert(!all.includes(held.access_token), "the client's token reached an upstream");
  assert(!all.includes(held.refresh_token), "the client's refresh token reached an upstream");
  return `${received.length} requests, each with one Authorization header: the upstream token`;
}

async function run(): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  const started = await log.step("start", async () => {
    const progress = (line: string) => process.stderr.write(`==> starting ${line}\n`);
    const stack = keep(await startStack({ folder, progress, config: verbose }));
    return { stack, found: `Envoy at ${stack.urls.issuer}` };
  });
  const { stack } = started;
  const { browser } = await log.step("browser", async () => {
    const started = await startBrowser({ publicKeyHash: stack.ca.publicKeyHash, resolve: stack.resolve });
    return { browser: keep(started), found: `Chromium ${started.version()}` };
  });
  const context = await browser.newContext();
  await log.step("401 without a token", async () => {
    const response = await stack.fetch(stack.urls.everything, { method: "POST", body: "{}" });
    assert.equal(response.status, 401, `the answer is ${response.status}: ${await response.text()}`);
    const challenge = response.headers.get("www-authenticate") ?? "";
    assert.match(challenge, /^Bearer .*resource_metadata="/, `no usable challenge: ${challenge}`);
    return challenge;
  });
  const everything = keep(await client(stack, context, stack.urls.everything));
  await useEverything(everything);
  await log.step("the route that needs no token", async () => {
    const open = keep(await client(stack, context, stack.urls.open));
    const answer = await (await open.connect()).callTool({ name: "greet", arguments: { name: "Alice" } });
    assert.deepEqual(answer.content, [{ type: "text", text: "Hello, Alice!" }]);
    const sent = stack.open.requests.flatMap(({ headers }) => headers.map(([name]) => name.toLowerCase()));
    assert(!sent.includes("authorization"), "an Authorization header reached the open server");
    return "Hello, Alice! (without an Authorization header)";
  });
  await log.step("everything at once", async () => {
    const others = await browser.newContext();
    return useEverythingAtOnce(stack, others);
  });
  await log.step("who saw which token", () => compare(stack, everything));
  const missing = expected.filter((name) => !log.done.includes(name));
  assert.equal(missing.length, 0, `these steps never happened: ${missing.join(", ")}`);
}

/** The demo logs at the most verbose level, so that the absence of tokens is meaningful. */
const verbose: NonNullable<Parameters<typeof startStack>[0]["config"]> = (config) => ({
  ...everythingAtOnce(config),
  log: { level: "trace" },
});

const expected = [
  "401 without a token",
  "protected resource metadata",
  "authorization server metadata",
  "registration",
  "sign-in at the company",
  "consent at the gateway",
  "sign-in at the upstream",
  "consent at the upstream",
  "token",
  "initialize",
  "tools/list",
  "tools/call whoami",
  "tools/call count",
  "streamed answer",
  "servers at the gateway",
  "tools/call everything__connect",
  "tools/call everything__whoami",
  "everything at once",
];

/** Time limit of the run; long enough for a first installation. */
const limitMs = 10 * 60_000;
async function tooLate(): Promise<never> {
  await delay(limitMs, undefined, { ref: false });
  throw new Error(`not done within ${limitMs / 60_000} minutes`);
}

let status = 0;
process.on("SIGINT", () => process.exit(130));
process.on("SIGTERM", () => process.exit(143));
try {
  await Promise.race([run(), tooLate()]);
} catch (error) {
  status = 1;
  const reason = error instanceof Error ? error.message : String(error);
  process.stdout.write(`✗ failed at step "${log.current()}": ${reason}\n  Logs are in ${folder}.\n`);
}
for (const close of closers.reverse()) await close();
const seconds = ((performance.now() - begin) / 1000).toFixed(1);
process.stdout.write(`${status === 0 ? "✓ all steps done" : "✗ stopped"} after ${seconds} s\n`);
process.exit(status);
