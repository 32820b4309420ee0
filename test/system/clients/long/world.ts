import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { z } from "zod";
import { freePort } from "../../../../dev/demo/free-port.ts";
import { stackClientId } from "../../../../dev/demo/stack-config.ts";
import { type E2e, startE2e } from "../../../support/e2e.ts";
import { copyEmbeddedTestDatabase } from "../../../support/embedded-database.ts";
import { listening } from "../../../support/listening.ts";
import { importedServers, oneCallEach } from "../aggregated/servers.ts";
import { connectBridge, connectProgram } from "../bridge.ts";
import { installClients, installLongClients, installPythonSdk, type LongClients } from "../install.ts";
import { type Model, type ModelCall, model } from "./model.ts";
import { type Person, person } from "./person.ts";
import { documentHosts, publishedDocuments } from "./published-documents.ts";
import { type ClientRunner, clientRunner, type Trust } from "./run-client.ts";

type Client = Awaited<ReturnType<typeof connectBridge>>;

/** Public URLs of third-party servers behind the gateway. */
export type ServerRoutes = Readonly<
  Record<
    | "fastmcpOAuth"
    | "fastmcpSse"
    | "sdkSse"
    | "supergateway"
    | "supergatewaySse"
    | "mcpProxy"
    | "mcpProxySse",
    string
  >
>;

/** A client of any SDK. */
interface ToolClient {
  listTools(): Promise<{ readonly tools: readonly { readonly name: string }[] }>;
  callTool(call: { name: string; arguments: Record<string, unknown> }): Promise<unknown>;
}

/** What a client connects to, and the calls that it makes there. */
export interface Target {
  readonly url: string;
  /** Names of tools, complete. */
  readonly calls: readonly ModelCall[];
}

/** The whole stack on localhost, which every client can resolve, with third-party servers, a user and a model. */
export interface World {
  readonly stack: E2e;
  readonly clients: LongClients;
  readonly person: Person;
  readonly model: Model;
  readonly folder: string;
  /** The path of an installed package of `package.json`. */
  readonly find: (specifier: string) => string;
  /** The Python with the SDK. */
  readonly python: string;
  /** The MCP server whose tool `whoami` returns the upstream's account. */
  readonly direct: Target;
  /** One URL for five servers: two stdio servers through the bridge, one with OAuth, one with an API key, one with legacy HTTP+SSE. */
  readonly aggregated: Target;
  /** Lifetime of an external token. */
  readonly tokenSeconds: number;
  readonly routes: ServerRoutes;
  /** Connects to a URL by mcp-remote (its package folder), which keeps its tokens under `home`. */
  bridge(name: string, url: string, home: string, args?: readonly string[]): Promise<Client>;
  /** Connects to a program that speaks MCP on its standard streams. */
  stdio(command: string, args: readonly string[], trust: Trust): Promise<Client>;
  /** @throws Error unless the tool `whoami` is listed and returns `account` */
  whoami(client: Client, account: string): Promise<void>;
  /** @throws Error unless all tools of the target are listed and return the expected answers */
  use(client: ToolClient, target: Target): Promise<void>;
  /** What the client that has last called `keyed__whoami` declares: revision and capabilities, as members see it. */
  declared(): Promise<string>;
  /** Removes the user's connection to the member with OAuth. */
  disconnect(): Promise<void>;
}

const tokenSeconds = 10;
const root = join(import.meta.dirname, "../../../..");

/** Installs and starts everything, and stops it when `use` has finished. */
export async function withWorld(use: (world: World) => Promise<void>): Promise<void> {
  const closers: (() => unknown)[] = [];
  try {
    await use(await start(closers));
  } finally {
    for (const close of closers.splice(0).reverse()) await close();
  }
}

async function start(closers: (() => unknown)[]): Promise<World> {
  const [find, sdk, clients] = [await installClients(), await installPythonSdk(), await installLongClients()];
  process.stderr.write("==> starting the stack, the servers of others, Chromium\n");
  const folder = await mkdtemp(join(tmpdir(), "clients-"));
  closers.push(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  const stackFolder = join(folder, "stack");
  const tls = { certificate: join(stackFolder, "tls.pem"), key: join(stackFolder, "tls-key.pem") };
  const documents = await publishedDocuments(tls);
  closers.push(documents.close);
  await copyEmbeddedTestDatabase(join(stackFolder, "data"));
  const gateway = await freePort();
  const ports = {
    fastmcpOAuth: 0,
    fastmcpSse: 0,
    sdkSse: 0,
    supergateway: 0,
    supergatewaySse: 0,
    mcpProxy: 0,
    keyed: 0,
    bridge: 0,
  };
  for (const name of keysOf(ports)) ports[name] = await freePort();
  const at = (port: number, path: string) => `http://127.0.0.1:${port}${path}`;
  // Not on localhost: if authorization servers share a host, each has its own redirect URI.
  const fastmcpHost = "https://fastmcp.test";
  const other = `https://127.0.0.1:${gateway}`;
  const upstreams: Readonly<Record<keyof ServerRoutes, string>> = {
    fastmcpOAuth: at(ports.fastmcpOAuth, "/mcp"),
    fastmcpSse: at(ports.fastmcpSse, "/sse"),
    sdkSse: at(ports.sdkSse, "/sse"),
    supergateway: at(ports.supergateway, "/mcp"),
    supergatewaySse: at(ports.supergatewaySse, "/sse"),
    mcpProxy: at(ports.mcpProxy, "/mcp"),
    mcpProxySse: at(ports.mcpProxy, "/sse"),
  };
  const routes = {} as Record<keyof ServerRoutes, string>;
  for (const name of keysOf(upstreams))
    routes[name] = name === "fastmcpOAuth" ? `${fastmcpHost}/mcp` : `${other}/${name.toLowerCase()}`;
  const apiKey = randomUUID();
  const imported = await importedServers({
    folder,
    from: other,
    bridgePort: ports.bridge,
    keyed: { url: at(ports.keyed, "/mcp"), key: apiKey },
    legacy: upstreams.sdkSse,
    oauth: "everything",
  });
  let secret = "";
  const stack = await startE2e({
    folder: stackFolder,
    urls: undefined,
    ports: { envoy: { port: gateway } },
    names: [...documentHosts, new URL(fastmcpHost).hostname],
    env: { ...imported.env, NODE_EXTRA_CA_CERTS: join(stackFolder, "ca.pem") },
    signInRedirectUris: [at(ports.fastmcpOAuth, "/auth/callback")],
    config: (config) => {
      const signIn = z.object({ providers: z.array(z.object({ client_secret: z.string() })) });
      secret = signIn.parse(config.sign_in).providers[0]?.client_secret ?? "";
      const more = keysOf(upstreams).map((id) => ({
        id: id.toLowerCase(),
        from: routes[id],
        to: upstreams[id],
        mcp: { server: {} },
      }));
      return {
        ...config,
        egress: { https_proxy: documents.url },
        external_tokens: { ttl: `${tokenSeconds}s`, leeway: "0s" },
        routes: [...config.routes, ...more, ...imported.routes],
      };
    },
  });
  closers.push(() => stack.close());

  const serve = (command: string, args: readonly string[]) => {
    const child = spawn(command, args, { stdio: "ignore", detached: true, cwd: folder });
    closers.push(() => endAll(child));
  };
  const stdioServer = [
    process.execPath,
    join(root, "node_modules/@modelcontextprotocol/server-everything/dist/index.js"),
    "stdio",
  ];
  const fastmcp = join(clients.fastmcp, "python");
  const fastmcpServer = join(import.meta.dirname, "fastmcp_server.py");
  const oauth = [String(ports.fastmcpOAuth), "oauth", stack.openid.issuer, stackClientId, secret];
  serve(fastmcp, [fastmcpServer, ...oauth]);
  serve(fastmcp, [fastmcpServer, String(ports.fastmcpSse), "sse"]);
  const declared = join(folder, "declared.json");
  serve(fastmcp, [fastmcpServer, String(ports.keyed), "key", apiKey, declared]);
  serve(fastmcp, [imported.bridge.program, imported.bridge.config]);
  serve(sdk, [join(import.meta.dirname, "../sse_server.py"), String(ports.sdkSse)]);
  const supergateway = join(clients.npm, "supergateway");
  const stdio = ["--stdio", stdioServer.join(" ")];
  serve(supergateway, [
    ...stdio,
    "--outputTransport",
    "streamableHttp",
    "--port",
    String(ports.supergateway),
  ]);
  serve(supergateway, [...stdio, "--outputTransport", "sse", "--port", String(ports.supergatewaySse)]);
  serve(join(clients.mcpProxy, "mcp-proxy"), ["--port", String(ports.mcpProxy), "--", ...stdioServer]);
  for (const port of Object.values(ports)) await listening(port);

  const alice = await person(stack, folder);
  closers.push(alice.close);
  const brain = await model();
  closers.push(brain.close);
  const trusting = (trust: Trust) => ({ [trust]: stack.ca.files.ca });
  return {
    stack,
    clients,
    person: alice,
    model: brain,
    folder,
    find,
    python: sdk,
    direct: {
      url: stack.urls.everything,
      calls: [{ tool: "whoami", arguments: {}, answer: "ally" }],
    },
    aggregated: { url: `${other}/all`, calls: oneCallEach },
    tokenSeconds,
    routes,
    bridge: (name, url, home, args = []) =>
      connectBridge(find(`${name}/dist/proxy.js`), url, {
        home: join(folder, home),
        env: trusting("NODE_EXTRA_CA_CERTS"),
        walk: alice.walk,
        args,
      }),
    stdio: (command, args, trust) =>
      connectProgram(command, args, {
        PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
        HOME: folder,
        ...trusting(trust),
      }),
    async whoami(client, account) {
      const { tools } = await client.listTools();
      if (!tools.some(({ name }) => name === "whoami")) throw new Error("whoami is not listed");
      const answer = JSON.stringify(await client.callTool({ name: "whoami" }));
      if (!answer.includes(`"${account}"`)) throw new Error(`whoami answered ${answer}, not ${account}`);
    },
    async use(client, { calls }) {
      const names = (await client.listTools()).tools.map(({ name }) => name);
      for (const { tool, arguments: input, answer } of calls) {
        if (!names.includes(tool)) throw new Error(`${tool} is not among the tools ${names.join(", ")}`);
        const result = JSON.stringify(await client.callTool({ name: tool, arguments: { ...input } }));
        if (!result.includes(answer)) throw new Error(`${tool} answered ${result}, not ${answer}`);
      }
    },
    async declared() {
      const { revision, capabilities } = JSON.parse(await readFile(declared, "utf8"));
      const { elicitation, ...others } = capabilities;
      const names = Object.keys({ ...others });
      if (elicitation) names.push(`elicitation (${Object.keys(elicitation).join(", ") || "form"})`);
      return `declares ${revision}, ${names.join(", ") || "no capabilities"}`;
    },
    async disconnect() {
      // Signs in at the issuer, for its cookie.
      await stack.externalToken("alice", stack.urls.open);
      const url = `${stack.urls.issuer}/.pomerium/mcp/routes/disconnect`;
      const answer = await stack.fetch(url, {
        method: "POST",
        headers: {
          cookie: await stack.browser("alice").jar.getCookieString(url),
          "content-type": "application/json",
        },
        body: JSON.stringify({ routes: ["everything"] }),
      });
      if (!answer.ok) throw new Error(`not disconnected: ${answer.status} ${await answer.text()}`);
    },
  };
}

/** A home folder for one client. */
export function runClient(world: World, name: string, trust: Trust): Promise<ClientRunner> {
  return clientRunner(name, {
    folder: world.folder,
    ca: world.stack.ca.files.ca,
    person: world.person,
    trust,
  });
}

const keysOf = <T extends object>(value: T) => Object.keys(value) as (keyof T)[];

async function endAll(child: ChildProcess): Promise<void> {
  if (!child.pid || child.exitCode !== null) return;
  const gone = once(child, "exit");
  process.kill(-child.pid, "SIGKILL");
  await gone;
}
