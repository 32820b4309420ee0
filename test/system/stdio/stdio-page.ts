import { execFile, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";
import { freePort } from "../../../dev/demo/free-port.ts";
import { type McpClient, mcpClient } from "../../../dev/demo/mcp-client.ts";
import { type OpenServer, openServer } from "../../../dev/demo/open-server.ts";
import { openidProvider } from "../../../dev/demo/openid-provider.ts";
import { httpBrowser } from "../../support/http-browser.ts";
import { command, replaceAll, runCommands, upLine } from "../../support/page-commands.ts";
import { environment } from "../clients/install.ts";
import { processesIn } from "./cpu-time.ts";

const root = join(import.meta.dirname, "../../..");
/** Until the gateway has aggregated routes, the page's command is run without them. */
export const hasAggregates = existsSync(join(root, "src/aggregation"));

/** Between the page's blocks that start and the one that stops. */
const untilStopped = `echo && echo "${upLine}"\nuntil [ -e ../stop ]; do sleep 0.2; done\n`;

/** docs/stdio.md, run as written: with free ports, a sign-in provider and a vendor of its own. */
export interface StdioPage {
  /** The page's folder: `servers.json`, and `gateway/` with what `import` has written. */
  readonly folder: string;
  /** The folder that the server `files` serves. */
  readonly files: string;
  /** The gateway's URL of a server. */
  url(name: string): string;
  /** The bridge's endpoint of a server. */
  bridge(name: string): string;
  readonly vendor: OpenServer;
  /** The secrets that the operator sets: of the sign-in provider, and the vendor's key. */
  readonly secrets: { readonly oidc: string; readonly key: string };
  /** The program `uv`. */
  readonly uv: string;
  /** Process ids of the server `files`, without npx around it. */
  processes(): readonly number[];
  /** What the page's command prints that lists the tools in a terminal; its browser is alice's. */
  listed(): Promise<string>;
  /** Runs the page's last block, which stops everything. */
  stop(): void;
  /** Ids of all processes that run in the page's folder. */
  running(): readonly number[];
  /** A client of `http://localhost:PORT/NAME`, whose user signs in when it connects. */
  client(name: string, login?: "alice" | "bob"): Promise<McpClient>;
  close(): Promise<void>;
}

/** Starts it. The bridge and its servers are installed from PyPI and npm on first use. */
export async function runStdioPage(): Promise<StdioPage> {
  const closers: (() => unknown)[] = [];
  const close = async () => {
    for (const one of closers.splice(0).reverse()) await one();
  };
  try {
    const folder = await mkdtemp(join(tmpdir(), "stdio-page-"));
    closers.push(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }));
    const numbers = ["8000", "8090", "8100", "9090", "8080", "50051"] as const;
    const ports = new Map<string, string>();
    for (const number of numbers) ports.set(number, String(await freePort()));
    const port = (number: (typeof numbers)[number]) => ports.get(number) ?? number;
    const secrets = { oidc: randomBytes(24).toString("hex"), key: randomBytes(24).toString("hex") };
    const company = await openidProvider({
      clients: [
        {
          client_id: "mcp-gateway",
          client_secret: secrets.oidc,
          redirect_uris: [`http://localhost:${port("8000")}/.pomerium/sign_in/callback`],
        },
      ],
    });
    closers.push(() => company.close());
    const vendor = await openServer();
    closers.push(() => vendor.close());
    const files = join(folder, "files");
    mkdirSync(files);
    writeFileSync(join(files, "readme.txt"), "from a server that speaks stdio");
    // npx takes what is installed here, and asks no registry.
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    const installed = await environment(
      join(import.meta.dirname, ".installed/venv"),
      join(import.meta.dirname, "requirements.txt"),
      "uv and Envoy",
    );
    const page = readFileSync(join(root, "docs/stdio.md"), "utf8");
    const section = page.split(/^## /m)[1] ?? "";
    const blocks = [...section.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block]) => block ?? "");
    const script = replaceAll([...blocks.slice(0, -1), untilStopped, ...blocks.slice(-1)].join("\n"), [
      // The packages are installed already.
      [
        "npm ci --loglevel=error\npython3 -m venv ~/.venvs/mcp\n~/.venvs/mcp/bin/pip install",
        "# pip install",
      ],
      ["$HOME/.venvs/mcp/bin", installed],
      ["make trial-provider &", "sleep infinity &"],
      ["mkdir -p ~/mcp && cd ~/mcp\n", `cd ${folder}\n`],
      ["cd ~/mcp/gateway\n", `cd ${folder}/gateway\n`],
      ["wait $bridge;", "wait $bridge || true;"],
      ["envoy -c", "envoy --disable-hot-restart -c"],
      ["http://127.0.0.1:8444", company.issuer],
      ["https://search.vendor.example/mcp", vendor.url],
      ["trial-secret-of-the-gateway-1234567890", secrets.oidc],
      ["the-key-that-the-vendor-gave-us", secrets.key],
      ["http://localhost:8000", `http://localhost:${port("8000")}`],
      ["127.0.0.1:9090", `127.0.0.1:${port("9090")}`],
      // One more, which tells what it learns from its client, and records that it was started.
      [
        '    "time": {',
        `    "everything": { "command": "sh", "args": ["-c", "echo >> ${join(folder, "started")}; exec npx -y @modelcontextprotocol/server-everything@2026.8.31"] },\n    "time": {`,
      ],
      // The page uses the default listeners, which another test may be using.
      [
        "--out gateway",
        `--out gateway --bridge 127.0.0.1:${port("8100")}${hasAggregates ? "" : " --no-aggregate"}`,
      ],
      [
        "cd gateway\n",
        `cd gateway\nsed -i 's/^listen:/aggregation: {listen: 127.0.0.1:${port("8090")}}\\nlisten:\\n  grpc: 127.0.0.1:${port("50051")}\\n  http: 127.0.0.1:${port("8080")}\\n  admin: 127.0.0.1:${port("9090")}/' routes.yaml\n`,
      ],
    ]);
    const whole = `set -eu -o pipefail\ncd ${root}\n${script}\nwait\n`;
    closers.push(await runCommands(folder, whole, { PATH: process.env.PATH ?? "" }));

    const url = (name: string) => `http://localhost:${port("8000")}/${name}`;
    const accounts = {
      alice: { login: "alice", password: "wonderland" },
      bob: { login: "bob", password: "builder" },
    };
    const browsers = { alice: httpBrowser({ fetch }), bob: httpBrowser({ fetch }) };
    return {
      folder,
      files,
      vendor,
      secrets,
      uv: join(installed, "uv"),
      processes: () =>
        execFileSync("ps", ["-eo", "pid=,args="], { encoding: "utf8" })
          .split("\n")
          .filter((line) => /^\s*\d+ node /.test(line) && line.endsWith(files))
          .map((line) => Number.parseInt(line, 10)),
      async listed() {
        const opened = join(folder, "opened");
        command(join(folder, "browser"), `printf '%s' "$1" > ${opened}.part && mv ${opened}.part ${opened}`);
        const line = /^uvx fastmcp.*$/m.exec(section)?.[0] ?? "";
        const [program = "", ...args] = line.replace("http://localhost:8000/all", url("all")).split(" ");
        const PATH = `${installed}:${process.env.PATH}`;
        const env = { ...process.env, PATH, BROWSER: join(folder, "browser"), FASTMCP_HOME: folder };
        const list = promisify(execFile)(program, args, { env });
        list.catch(() => writeFileSync(opened, ""));
        while (!existsSync(opened)) await setTimeout(100);
        const address = readFileSync(opened, "utf8");
        if (address !== "")
          await browsers.alice.agree(await browsers.alice.open(address), () => accounts.alice);
        return (await list).stdout;
      },
      stop: () => writeFileSync(join(folder, "stop"), ""),
      running: () => processesIn(folder),
      url,
      bridge: (name) => `http://127.0.0.1:${port("8100")}/servers/${name}/mcp`,
      async client(name, login = "alice") {
        const client = await mcpClient({
          url: url(name),
          fetch,
          browse: async (url) =>
            browsers[login].agree(await browsers[login].open(url), () => accounts[login]),
        });
        closers.push(() => client.close());
        return client;
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
