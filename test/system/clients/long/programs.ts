import { join } from "node:path";
import type { Trust } from "./run-client.ts";
import { afterExpiry, callsInWords, expectTwice, expired, type Scenario, versions } from "./scenario.ts";
import { runClient, type Target, type World } from "./world.ts";

type Worked = (what: string) => void;

/** Bridges for clients that support only stdio servers, and small programs of SDKs. */
export async function programs(target: (world: World) => Target): Promise<readonly Scenario[]> {
  const called = (world: World) => `tools listed, ${callsInWords(target(world))}`;
  /** Runs a program with the URL, the lifetime of a token, and the calls to make. */
  async function run(world: World, worked: Worked, command: readonly string[], trust: Trust) {
    const client = await runClient(world, command.at(-1)?.split("/").at(-1) ?? "program", trust);
    const { url, calls } = target(world);
    const [program = "", ...args] = command;
    const wanted = calls.flatMap(({ tool, arguments: input }) => [tool, JSON.stringify(input)]);
    const all = [...args, url, String(world.tokenSeconds), ...wanted];
    expectTwice(await client.run(program, all), target(world));
    worked("sign-in by registration");
    worked(called(world));
    worked(expired);
  }
  const mcpRemote = async (name: string): Promise<Scenario> => ({
    name: "mcp-remote",
    version: await versions.npm(name, "package.json"),
    async steps(world, worked) {
      const { url } = target(world);
      const once = async () => {
        const client = await world.bridge(name, url, `${name}${new URL(url).pathname.replaceAll("/", "-")}`);
        await world.use(client, target(world));
        await client.close();
      };
      await once();
      worked("sign-in by registration");
      worked(called(world));
      await afterExpiry(world, once);
      worked(expired);
    },
  });
  const withToken = async (
    world: World,
    worked: Worked,
    connect: (token: string) => ReturnType<World["stdio"]>,
  ) => {
    const { url } = target(world);
    const client = await connect(await world.stack.externalToken("alice", url));
    await world.use(client, target(world));
    await client.close();
    worked(`${called(world)} with an external token as header; it has no sign-in of its own`);
  };
  return [
    await mcpRemote("mcp-remote-old"),
    await mcpRemote("mcp-remote"),
    {
      name: "FastMCP client",
      version: await versions.pip("fastmcp", "long/fastmcp.txt"),
      steps: (world, worked) =>
        run(
          world,
          worked,
          [join(world.clients.fastmcp, "python"), join(import.meta.dirname, "fastmcp_client.py")],
          "SSL_CERT_FILE",
        ),
    },
    {
      name: "Python SDK client",
      version: await versions.pip("mcp", "requirements.txt"),
      steps: (world, worked) =>
        run(
          world,
          worked,
          [world.python, join(import.meta.dirname, "python_sdk_client.py")],
          "SSL_CERT_FILE",
        ),
    },
    {
      name: "Go SDK client",
      version: await versions.go(),
      unavailable: ({ clients }) => (clients.go ? undefined : "Go is not installed"),
      steps: (world, worked) => run(world, worked, [world.clients.go ?? ""], "SSL_CERT_FILE"),
    },
    {
      name: "rmcp client (Rust SDK)",
      version: await versions.rust(),
      unavailable: ({ clients }) => (clients.rust ? undefined : "Rust is not installed"),
      steps: (world, worked) => run(world, worked, [world.clients.rust ?? ""], "SSL_CERT_FILE"),
    },
    {
      name: "mcp-proxy (Python) as client",
      version: await versions.pip("mcp-proxy", "long/mcp-proxy.txt"),
      steps: (world, worked) =>
        withToken(world, worked, (token) => {
          const header = ["-H", "Authorization", `Bearer ${token}`];
          const args = ["--transport", "streamablehttp", ...header, target(world).url];
          return world.stdio(join(world.clients.mcpProxy, "mcp-proxy"), args, "SSL_CERT_FILE");
        }),
    },
    {
      name: "supergateway as client",
      version: await versions.npm("supergateway"),
      steps: (world, worked) =>
        withToken(world, worked, (token) => {
          const args = ["--streamableHttp", target(world).url, "--oauth2Bearer", token, "--logLevel", "none"];
          return world.stdio(join(world.clients.npm, "supergateway"), args, "NODE_EXTRA_CA_CERTS");
        }),
    },
  ];
}
