import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../../dev/demo/free-port.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { httpBrowser } from "../../support/http-browser.ts";
import { listening } from "../../support/listening.ts";
import { connectBridge } from "./bridge.ts";
import { installClients, installPythonSdk } from "./install.ts";

describe("mcp-remote, used by clients that support only stdio servers", { timeout: 180_000 }, () => {
  let stack: E2e;
  let legacy: ChildProcess;
  let home: string;
  let find: (specifier: string) => string;
  beforeAll(async () => {
    find = await installClients();
    const port = await freePort();
    legacy = spawn(await installPythonSdk(), [join(import.meta.dirname, "sse_server.py"), String(port)], {
      stdio: "ignore",
    });
    home = await mkdtemp(join(tmpdir(), "mcp-remote-"));
    // It resolves names itself, so this uses localhost.
    stack = await startE2e({
      urls: undefined,
      config: (config) => {
        const to = `http://127.0.0.1:${port}/sse`;
        const route = {
          id: "legacy",
          from: `${config.issuer}/legacy/sse`,
          to,
          mcp: { server: { upstream_auth: "none" } },
        };
        return { ...config, routes: [...config.routes, route] };
      },
    });
    await listening(port);
  }, 300_000);
  afterAll(async () => {
    await stack?.close();
    if (legacy?.exitCode === null && legacy.kill()) await once(legacy, "exit");
    await rm(home, { recursive: true, force: true });
  });

  const options = (folder: string) => {
    const browser = httpBrowser({ fetch: stack.fetch });
    return {
      home: join(home, folder),
      env: { NODE_EXTRA_CA_CERTS: stack.ca.files.ca },
      walk: async (url: string) => {
        const end = await browser.agree(await browser.open(url), stack.signIn("alice"));
        if (end.status !== 200) throw new Error(`the browser ended at ${end.url.href}: ${end.html}`);
      },
    };
  };

  test.each([
    ["of 2025", "mcp-remote-old"],
    ["of November 2026", "mcp-remote"],
  ])("%s signs in, lists tools and calls one", async (_, name) => {
    const client = await connectBridge(find(`${name}/dist/proxy.js`), stack.urls.everything, options(name));
    const { tools } = await client.listTools();
    expect(tools.map((tool) => tool.name)).toContain("whoami");
    expect(JSON.stringify(await client.callTool({ name: "whoami" }))).toContain("ally");
    await client.close();
  });

  test("reaches a legacy HTTP+SSE server of the Python SDK", async () => {
    const url = `${stack.urls.issuer}/legacy/sse`;
    const args = ["--transport", "sse-only"];
    const client = await connectBridge(find("mcp-remote/dist/proxy.js"), url, { ...options("legacy"), args });
    const answer = await client.callTool({ name: "shout", arguments: { text: "anybody there" } });
    expect(JSON.stringify(answer)).toContain("ANYBODY THERE");
    await client.close();
  });
});
