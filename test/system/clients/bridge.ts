import { dirname } from "node:path";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

/** Connects to a program that speaks MCP on its standard streams. */
export async function connectProgram(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Client> {
  const transport = new StdioClientTransport({ command, args: [...args], env: { ...env }, stderr: "ignore" });
  const client = new Client({ name: "real-clients", version: "1" });
  await client.connect(transport, { timeout: 60_000 });
  return client;
}

/**
 * Connects through mcp-remote, like clients that support only stdio servers: it signs in, and forwards messages to `url`.
 * @param proxy its `proxy.js`
 * @param options.args additional arguments: `--transport sse-only`
 * @param options.home holds its tokens; if it is reused, no new sign-in is needed
 * @param options.walk opens the URL that it sends the user to
 * @throws Error with its output if it does not connect
 */
export async function connectBridge(
  proxy: string,
  url: string,
  options: {
    readonly home: string;
    readonly env: Readonly<Record<string, string>>;
    readonly walk: (url: string) => Promise<unknown>;
    readonly args?: readonly string[];
  },
): Promise<Client> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [proxy, url, ...(options.args ?? [])],
    // It must not find a browser of the system.
    env: {
      PATH: dirname(process.execPath),
      HOME: options.home,
      MCP_REMOTE_CONFIG_DIR: options.home,
      ...options.env,
    },
    stderr: "pipe",
  });
  let printed = "";
  const failed = Promise.withResolvers<never>();
  const walked = new Set<string>();
  transport.stderr?.on("data", (chunk: Buffer) => {
    printed += chunk;
    for (const [found] of printed.matchAll(/https:\/\/\S+[?&]state=\S+(?=\s)/g)) {
      if (walked.has(found)) continue;
      walked.add(found);
      options.walk(found).catch(failed.reject);
    }
  });
  const client = new Client({ name: "real-clients", version: "1" });
  try {
    await Promise.race([client.connect(transport, { timeout: 120_000 }), failed.promise]);
    return client;
  } catch (error) {
    await client.close();
    throw new Error(`${String(error)}\nmcp-remote printed: ${printed.slice(-3000)}`, { cause: error });
  }
}
