import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { mcpClient } from "../../../dev/demo/mcp-client.ts";
import { aggregated } from "./aggregated/scenarios.ts";
import { agents } from "./long/agents.ts";
import { programs } from "./long/programs.ts";
import { expectText, type Scenario, versions } from "./long/scenario.ts";
import { type World, withWorld } from "./long/world.ts";

/*
 * `make clients`: unmodified third-party clients and servers, each in its own way: the server is added, the user signs in and allows in
 * Chromium, tools are listed and called, by agents with a stand-in for their model. Arguments select clients by name.
 */

const scenarios: readonly Scenario[] = [
  ...(await agents((world) => world.direct)),
  ...(await programs((world) => world.direct)),
  ...(await aggregated()),
  {
    name: "FastMCP server with OIDCProxy",
    version: await versions.pip("fastmcp", "long/fastmcp.txt"),
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
      await versions.pip("fastmcp", "long/fastmcp.txt"),
    ] as const,
    [
      "Python SDK server, legacy HTTP+SSE",
      "sdkSse",
      "sse-only",
      await versions.pip("mcp", "requirements.txt"),
    ] as const,
    ["supergateway, stdio to HTTP", "supergateway", "http-only", await versions.npm("supergateway")] as const,
    [
      "supergateway, stdio to legacy HTTP+SSE",
      "supergatewaySse",
      "sse-only",
      await versions.npm("supergateway"),
    ] as const,
    [
      "mcp-proxy (Python), stdio to HTTP",
      "mcpProxy",
      "http-only",
      await versions.pip("mcp-proxy", "long/mcp-proxy.txt"),
    ] as const,
    [
      "mcp-proxy (Python), stdio to legacy HTTP+SSE",
      "mcpProxySse",
      "sse-only",
      await versions.pip("mcp-proxy", "long/mcp-proxy.txt"),
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
      process.stderr.write(
        `What the model was asked: ${world.model.asked.slice(-8).join(", ") || "nothing"}\n`,
      );
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
