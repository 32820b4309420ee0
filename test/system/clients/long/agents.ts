import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  afterExpiry,
  callsInWords,
  expectAnswers,
  expectText,
  expired,
  type Scenario,
  versions,
} from "./scenario.ts";
import { runClient, type Target, type World } from "./world.ts";

/** Agents, which sign in by their own commands and call what the stand-in for their model wants. */
export async function agents(target: (world: World) => Target): Promise<readonly Scenario[]> {
  const start = (world: World) => {
    const { url, calls } = target(world);
    world.model.plan = calls;
    return { url, calls };
  };
  const called = (world: World) => callsInWords(target(world));
  return [
    {
      name: "Claude Code",
      version: await versions.npm("@anthropic-ai/claude-code"),
      async steps(world, worked) {
        const { url, calls } = start(world);
        const { run } = await runClient(world, "claude", "NODE_EXTRA_CA_CERTS");
        const claude = join(world.clients.npm, "claude");
        await run(claude, ["mcp", "add", "--transport", "http", "everything", url]);
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
          // Without this it asks its model before a slow server has listed its tools.
          MCP_CONNECTION_NONBLOCKING: "false",
        };
        await afterExpiry(world, async () => {
          const allowed = calls.map(({ tool }) => `mcp__everything__${tool}`).join(",");
          const said = await run(claude, ["-p", "Who am I?", "--allowedTools", allowed], { env });
          expectAnswers(said, target(world));
        });
        worked(called(world));
        worked(expired);
      },
    },
    {
      name: "Codex",
      version: await versions.npm("@openai/codex"),
      async steps(world, worked) {
        const { url } = start(world);
        const { run } = await runClient(world, "codex", "SSL_CERT_FILE");
        const codex = join(world.clients.npm, "codex");
        // Adding starts a login at once; it is ended, so that the next step is the only login.
        await run(codex, ["mcp", "add", "everything", "--url", url], {
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
          expectAnswers(await run(codex, ["exec", ...options, "Who am I?"]), target(world)),
        );
        worked(called(world));
        worked(expired);
        const another = await runClient(world, "codex", "SSL_CERT_FILE");
        await another.run(codex, ["mcp", "add", "everything", "--url", url], { until: /Added global/ });
        const args = ["mcp", "login", "everything", "--oauth-client-registration", "dcr"];
        expectText(await another.run(codex, args), /Successfully logged in/);
        worked("the same by registration");
      },
    },
    {
      name: "Gemini CLI",
      version: await versions.npm("@google/gemini-cli"),
      async steps(world, worked) {
        const { url } = start(world);
        const { home, run } = await runClient(world, "gemini", "NODE_EXTRA_CA_CERTS");
        const gemini = join(world.clients.npm, "gemini");
        await mkdir(join(home, ".gemini"));
        const settings = {
          security: { auth: { selectedType: "gemini-api-key" }, folderTrust: { enabled: false } },
        };
        await writeFile(join(home, ".gemini/settings.json"), JSON.stringify(settings));
        const env = { GEMINI_API_KEY: "x", GOOGLE_GEMINI_BASE_URL: world.model.url };
        const add = ["mcp", "add", "--transport", "http", "--scope", "user", "--trust", "everything", url];
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
          expectAnswers(await run(gemini, [...model, "-y", "-p", "Who am I?"], { env }), target(world));
        });
        worked(called(world));
        worked(expired);
      },
    },
    {
      name: "opencode",
      version: await versions.npm("opencode-ai"),
      async steps(world, worked) {
        const { url } = start(world);
        const { run } = await runClient(world, "opencode", "NODE_EXTRA_CA_CERTS");
        const opencode = join(world.clients.npm, "opencode");
        await run(opencode, ["mcp", "add", "everything", "--url", url]);
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
          const said = await run(opencode, ["run", "-m", "standin/model", "Who am I?"], { env });
          expectAnswers(said, target(world));
        });
        worked(called(world));
        worked(expired);
        expectText(await run(opencode, ["mcp", "debug", "everything"]), /Connection successful/);
      },
    },
  ];
}
