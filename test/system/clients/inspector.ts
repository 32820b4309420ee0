import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { freePort } from "../../../dev/demo/free-port.ts";

/** The program in its package. */
export const inspectorLauncher = "@modelcontextprotocol/inspector/clients/launcher/build/index.js";

/**
 * Starts the MCP Inspector for one server.
 * @param options.url of the server
 * @param options.home folder for its files
 * @param options.ca PEM file of the CA that it trusts
 * @returns the address of its page, with the secret that it requires
 */
export async function startInspector(options: {
  readonly launcher: string;
  readonly url: string;
  readonly home: string;
  readonly ca: string;
}): Promise<{ readonly address: string; close(): Promise<void> }> {
  const inspector = spawn(
    process.execPath,
    [options.launcher, ...["--web", "--transport", "http", "--server-url", options.url]],
    {
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        HOME: options.home,
        CLIENT_PORT: String(await freePort()),
        MCP_AUTO_OPEN_ENABLED: "false",
        MCP_INSPECTOR_SECRET_STORE: "memory",
        NODE_EXTRA_CA_CERTS: options.ca,
      },
    },
  );
  return {
    address: await addressOf(inspector),
    async close() {
      const gone = once(inspector, "exit");
      // It still writes to its home while it shuts down.
      if (inspector.exitCode === null && inspector.kill()) await gone;
    },
  };
}

function addressOf(inspector: ChildProcess): Promise<string> {
  let said = "";
  return new Promise((resolve, reject) => {
    const read = (chunk: Buffer) => {
      said += chunk;
      const [, url] = /up and running at:\s+(http:\S+)/.exec(said) ?? [];
      if (url) resolve(url);
    };
    inspector.stdout?.on("data", read);
    inspector.stderr?.on("data", read);
    inspector.once("exit", () => reject(new Error(`the inspector ended: ${said}`)));
  });
}
