import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { mcpClient } from "../../../dev/demo/mcp-client.ts";
import { runClient, type World, withWorld } from "./long/world.ts";

/*
 * `make clients`: unmodified third-party clients and servers, each in its own way: the server is added, the user signs in and allows in
 * Chromium, tools are listed, one is called, by agents with a stand-in for their model. Arguments select clients by name.
 */

/** A client or server, and its test; the texts describe what worked. */
interface Scenario {
  readonly name: string;
  readonly version: string;
  readonly steps: (world: World, worked: (what: string) => void) => Promise<void>;
  /** Why it is not run here. */
  readonly unavailable?: (world: World) => string | undefined;
}

const folder = import.meta.dirname;
const pinned = async (file: string, pattern: RegExp) =>
  pattern.exec(await readFile(join(folder, file), "utf8"))?.[1] ?? "?";
const npm = (name: string, file = "long/package.json") =>
  pinned(file, new RegExp(`"${name}": "(?:npm:.*@)?([\\d.]+)"`));
const pip = (name: string, file: string) => pinned(file, new RegExp(`^${name}==(\\S+)$`, "m"));

/** Fails unless the client's output contains the text. */
function expectText(printed: string, expected: RegExp): void {
  if (!expected.test(printed)) throw new Error(`${expected} is not in:\n${printed.slice(-3000)}`);
}

/** `again` works after the token has expired, without the user, with the refresh token. */
async function afterExpiry(world: World, again: () => Promise<unknown>): Promise<void> {
  await delay(world.tokenSeconds * 1000);
  const { authorizations } = world.person;
  await again();
  if (world.person.authorizations !== authorizations)
    throw new Error("the person was asked again after the token had expired");
}

const expired = "the expired token was refreshed";

const scenarios: readonly Scenario[] = [
  {
    name: "Claude Code",
    version: await npm("@anthropic-ai/claude-code"),
    async steps(world, worked) {
      const { run } = await runClient(world, "claude", "NODE_EXTRA_CA_CERTS");
      const claude = join(world.clients.npm, "claude");
      await run(claude, ["mcp", "add", "--transport", "http", "everything", world.url]);
      expectText(await run(claude, ["mcp", "list"]), /Needs authentication/);
      const login = await run(claude, ["mcp", "login", "everything"], { terminal: true });
      expectText(login, /Authenticated with "everything"/);
      expectText(login, /claude-code-client-metadata/);
      worked("`claude mcp login` by its client document");
      expectText(await run(claude, ["mcp", "list"]), /Connected/);
      worked("`claude mcp list` says connected");
      const env = {
        ANTHROPIC_BASE_URL: world.model.url,
        ANTHROPIC_API_KEY: "x",
        ENABLE_TOOL_SEARCH: "false",
      };
      await afterExpiry(world, async () => {
        const said = await run(claude, ["-p", "Who am I?", "--allowedTools", "mcp__everything__whoami"], {
          env,
        });
        expectText(said, /It said: ally/);
      });
      worked("a tool call");
      worked(expired);
    },
  },
  {
    name: "Codex",
    version: await npm("@openai/codex"),
    async steps(world, worked) {
      const { run } = await runClient(world, "codex", "SSL_CERT_FILE");
      const codex = join(world.clients.npm, "codex");
      // Adding starts a login at once; it is ended, so that the next step is the only login.
      await run(codex, ["mcp", "add", "everything", "--url", world.url], {
        until: /Added global MCP server/,
      });
      const login = await run(codex, ["mcp", "login", "everything"]);
      expectText(login, /Successfully logged in/);
      expectText(login, /chatgpt\.com/);
      worked("`codex mcp login` by its client document");
      expectText(await run(codex, ["mcp", "list"]), /OAuth/);
      const provider = `{name="stand-in",base_url="${world.model.url}/v1",wire_api="responses"}`;
      const options = [
        ...[
          "-m",
          "stand-in",
          "-c",
          'model_provider="stand_in"',
          "-c",
          `model_providers.stand_in=${provider}`,
        ],
        ...["-c", 'mcp_servers.everything.default_tools_approval_mode="approve"', "--skip-git-repo-check"],
        // Without this it may start before the server has responded.
        ...["-c", "mcp_servers.everything.required=true"],
      ];
      await afterExpiry(world, async () =>
        expectText(await run(codex, ["exec", ...options, "Who am I?"]), /It said: ally/),
      );
      worked("a tool call");
      worked(expired);
      const another = await runClient(world, "codex", "SSL_CERT_FILE");
      await another.run(codex, ["mcp", "add", "everything", "--url", world.url], { until: /Added global/ });
      const args = ["mcp", "login", "everything", "--oauth-client-registration", "dcr"];
      expectText(await another.run(codex, args), /Successfully logged in/);
      worked("the same by registration");
    },
  },
  {
    name: "Gemini CLI",
    version: await npm("@google/gemini-cli"),
    async steps(world, worked) {
      const { home, run } = await runClient(world, "gemini", "NODE_EXTRA_CA_CERTS");
      const gemini = join(world.clients.npm, "gemini");
      await mkdir(join(home, ".gemini"));
      const settings = {
        security: { auth: { selectedType: "gemini-api-key" }, folderTrust: { enabled: false } },
      };
      await writeFile(join(home, ".gemini/settings.json"), JSON.stringify(settings));
      const env = { GEMINI_API_KEY: "x", GOOGLE_GEMINI_BASE_URL: world.model.url };
      const add = [
        "mcp",
        "add",
        "--transport",
        "http",
        "--scope",
        "user",
        "--trust",
        "everything",
        world.url,
      ];
      await run(gemini, add, { env });
      const model = ["-m", "gemini-2.5-flash"];
      await run(gemini, model, {
        env,
        terminal: true,
        type: [
          [/Type your message/, "/mcp auth everything"],
          [/> \/mcp auth everything/, "\r"],
          // It asks before opening a browser.
          [/2\. No/, "\r"],
        ],
        until: /Successfully authenticated/,
        timeout: 90,
      });
      worked("`/mcp auth` by registration");
      expectText(await run(gemini, ["mcp", "list"], { env }), /Connected/);
      worked("`gemini mcp list` says connected");
      await afterExpiry(world, async () => {
        expectText(await run(gemini, [...model, "-y", "-p", "Who am I?"], { env }), /It said: ally/);
      });
      worked("a tool call");
      worked(expired);
    },
  },
  {
    name: "opencode",
    version: await npm("opencode-ai"),
    async steps(world, worked) {
      const { run } = await runClient(world, "opencode", "NODE_EXTRA_CA_CERTS");
      const opencode = join(world.clients.npm, "opencode");
      await run(opencode, ["mcp", "add", "everything", "--url", world.url]);
      expectText(await run(opencode, ["mcp", "auth", "everything"]), /Authentication successful/);
      worked("`opencode mcp auth` by registration");
      expectText(await run(opencode, ["mcp", "list"]), /everything connected/);
      worked("`opencode mcp list` says connected");
      const provider = {
        npm: "@ai-sdk/openai-compatible",
        options: { baseURL: `${world.model.url}/v1`, apiKey: "x" },
        models: { model: { name: "model", tool_call: true } },
      };
      const env = { OPENCODE_CONFIG_CONTENT: JSON.stringify({ provider: { standin: provider } }) };
      await afterExpiry(world, async () => {
        expectText(
          await run(opencode, ["run", "-m", "standin/model", "Who am I?"], { env }),
          /It said: ally/,
        );
      });
      worked("a tool call");
      worked(expired);
      expectText(await run(opencode, ["mcp", "debug", "everything"]), /Connection successful/);
    },
  },
  ...(
    [
      ["mcp-remote-old", await npm("mcp-remote-old", "package.json")],
      ["mcp-remote", await npm("mcp-remote", "package.json")],
    ] as const
  ).map(([name, version]) => ({
    name: "mcp-remote",
    version,
    async steps(world: World, worked: (what: string) => void) {
      const bridge = () => world.bridge(name, world.url, name);
      let client = await bridge();
      await world.whoami(client, "ally");
      await client.close();
      worked("sign-in by registration, tools listed, a call");
      await afterExpiry(world, async () => {
        client = await bridge();
        await world.whoami(client, "ally");
        await client.close();
      });
      worked(expired);
    },
  })),
  {
    name: "FastMCP client",
    version: await pip("fastmcp", "long/fastmcp.txt"),
    async steps(world, worked) {
      const { run } = await runClient(world, "fastmcp", "SSL_CERT_FILE");
      const python = join(world.clients.fastmcp, "python");
      const program = join(folder, "long/fastmcp_client.py");
      await ownProgram(run(python, [program, world.url, String(world.tokenSeconds)]), worked);
    },
  },
  {
    name: "Go SDK client",
    version: await pinned("go/go.mod", /go-sdk v(\S+)/),
    unavailable: ({ clients }) => (clients.go ? undefined : "Go is not installed"),
    async steps(world, worked) {
      const { run } = await runClient(world, "go", "SSL_CERT_FILE");
      await ownProgram(run(world.clients.go ?? "", [world.url, String(world.tokenSeconds)]), worked);
    },
  },
  {
    name: "rmcp client (Rust SDK)",
    version: await pinned("rust/Cargo.toml", /rmcp = \{ version = "=([^"]+)"/),
    unavailable: ({ clients }) => (clients.rust ? undefined : "Rust is not installed"),
    async steps(world, worked) {
      const { run } = await runClient(world, "rust", "SSL_CERT_FILE");
      await ownProgram(run(world.clients.rust ?? "", [world.url, String(world.tokenSeconds)]), worked);
    },
  },
  {
    name: "mcp-proxy (Python) as client",
    version: await pip("mcp-proxy", "long/mcp-proxy.txt"),
    async steps(world, worked) {
      const token = await world.stack.externalToken("alice");
      const args = ["--transport", "streamablehttp", "-H", "Authorization", `Bearer ${token}`, world.url];
      const client = await world.stdio(join(world.clients.mcpProxy, "mcp-proxy"), args, "SSL_CERT_FILE");
      await world.whoami(client, "ally");
      await client.close();
      worked("a call with an external token as header; it has no sign-in of its own");
    },
  },
  {
    name: "supergateway as client",
    version: await npm("supergateway"),
    async steps(world, worked) {
      const token = await world.stack.externalToken("alice");
      const args = ["--streamableHttp", world.url, "--oauth2Bearer", token, "--logLevel", "none"];
      const client = await world.stdio(join(world.clients.npm, "supergateway"), args, "NODE_EXTRA_CA_CERTS");
      await world.whoami(client, "ally");
      await client.close();
      worked("a call with an external token as header; it has no sign-in of its own");
    },
  },
  {
    name: "FastMCP server with OIDCProxy",
    version: await pip("fastmcp", "long/fastmcp.txt"),
    async steps(world, worked) {
      const { fetch } = world.stack;
      // Uses the SDK's client, whose name resolution can be configured: FastMCP accepts no redirect URI on loopback.
      const client = await mcpClient({
        url: world.routes.fastmcpOAuth,
        fetch,
        browse: ({ href }) => world.person.walk(href),
      });
      await world.whoami(await client.connect(), "alice");
      await client.close();
      worked("`server: {}`: we found it and registered; its consent page and the company's sign-in, a call");
    },
  },
  ...[
    [
      "FastMCP server, legacy HTTP+SSE",
      "fastmcpSse",
      "sse-only",
      await pip("fastmcp", "long/fastmcp.txt"),
    ] as const,
    [
      "Python SDK server, legacy HTTP+SSE",
      "sdkSse",
      "sse-only",
      await pip("mcp", "requirements.txt"),
    ] as const,
    ["supergateway, stdio to HTTP", "supergateway", "http-only", await npm("supergateway")] as const,
    [
      "supergateway, stdio to legacy HTTP+SSE",
      "supergatewaySse",
      "sse-only",
      await npm("supergateway"),
    ] as const,
    [
      "mcp-proxy (Python), stdio to HTTP",
      "mcpProxy",
      "http-only",
      await pip("mcp-proxy", "long/mcp-proxy.txt"),
    ] as const,
    [
      "mcp-proxy (Python), stdio to legacy HTTP+SSE",
      "mcpProxySse",
      "sse-only",
      await pip("mcp-proxy", "long/mcp-proxy.txt"),
    ] as const,
  ].map(([name, route, transport, version]) => ({
    name,
    version,
    async steps(world: World, worked: (what: string) => void) {
      const client = await world.bridge("mcp-remote", world.routes[route], route, ["--transport", transport]);
      const { tools } = await client.listTools();
      const tool = tools.find(({ name: one }) => ["echo", "whoami", "shout"].includes(one));
      if (!tool) throw new Error(`tools: ${tools.map((one) => one.name)}`);
      const args = { message: "hello", text: "hello" };
      expectText(
        JSON.stringify(
          await client.callTool({ name: tool.name, arguments: tool.name === "whoami" ? {} : args }),
        ),
        /hello|nobody/i,
      );
      await client.close();
      worked("tools listed, a call");
    },
  })),
];

/** Output of the small programs in this folder. */
async function ownProgram(printed: Promise<string>, worked: (what: string) => void): Promise<void> {
  expectText(await printed, /tools .*whoami[\s\S]*answered ally[\s\S]*answered ally/);
  worked("sign-in by registration, tools listed, a call");
  worked(expired);
}

const wanted = process.argv.slice(2).map((one) => one.toLowerCase());
const chosen = scenarios.filter(
  ({ name }) => wanted.length === 0 || wanted.some((one) => name.toLowerCase().includes(one)),
);
const rows: { readonly name: string; readonly version: string; readonly text: string }[] = [];
let failures = 0;
await withWorld(async (world) => {
  for (const { name, version, steps, unavailable } of chosen) {
    const why = unavailable?.(world);
    const worked: string[] = [];
    process.stderr.write(`==> ${name}\n`);
    let text = why && `not tried: ${why}`;
    try {
      if (!why) await steps(world, (what) => worked.push(what));
    } catch (error) {
      failures += 1;
      process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
      const log = await readFile(join(world.folder, "stack/sidecar.log"), "utf8");
      const faults = log.split("\n").filter((line) => /"level":"(warn|error)"|"level":[45]0/.test(line));
      process.stderr.write(`What the model was asked: ${world.model.asked.join(", ") || "nothing"}\n`);
      process.stderr.write(`The gateway's log, its last faults:\n${faults.slice(-3).join("\n")}\n`);
      text = `FAILED after: ${worked.join("; ") || "nothing"}`;
    }
    rows.push({ name, version, text: text ?? worked.join("; ") });
  }
});
const width = Math.max(...rows.map(({ name }) => name.length));
process.stdout.write(`\n${"client or server".padEnd(width)}  version    what worked\n`);
for (const { name, version, text } of rows)
  process.stdout.write(`${name.padEnd(width)}  ${version.padEnd(9)}  ${text}\n`);
process.stdout.write(`\n${rows.length - failures} passed, ${failures} failed\n`);
process.exitCode = failures > 0 || rows.length === 0 ? 1 : 0;
