import { randomBytes } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { type EverythingServer, everythingServer } from "../../dev/demo/everything-server.ts";
import { freePort } from "../../dev/demo/free-port.ts";
import { loopbackFetch } from "../../dev/demo/loopback-fetch.ts";
import { type McpClient, mcpClient } from "../../dev/demo/mcp-client.ts";
import { type OpenServer, openServer } from "../../dev/demo/open-server.ts";
import { openidProvider } from "../../dev/demo/openid-provider.ts";
import { programFile } from "../../dev/demo/sidecar.ts";
import {
  type UpstreamAuthorizationServer,
  upstreamAuthorizationServer,
} from "../../dev/demo/upstream-authorization-server.ts";
import { envoyBinary } from "../../envoy/envoy-binary.ts";
import { httpBrowser } from "../support/http-browser.ts";
import { command, replaceAll, runCommands, upLine } from "../support/page-commands.ts";

const root = join(import.meta.dirname, "../..");
const secrets = { oidc: "company-secret-0123456789", tickets: "tickets-secret-0123456789", search: "k-2718" };
const scopes = ["read", "write"];
const closers: (() => unknown)[] = [];
function keep<T extends { close(): unknown }>(part: T): T {
  closers.push(() => part.close());
  return part;
}

/** The section's routes file and its commands. */
function section(): { yaml: string; commands: string } {
  const page = readFileSync(join(root, "docs/advanced.md"), "utf8");
  const text = page.split(/^## /m).find((one) => one.startsWith("From per-server auth proxies")) ?? "";
  const block = (language: string) =>
    new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "ms").exec(text)?.[1] ?? "";
  return { yaml: block("yaml"), commands: block("sh") };
}

describe("the five servers of docs/advanced.md that had separate proxies", () => {
  let vendors: Record<"notes" | "tickets", EverythingServer>;
  let authorities: Record<"notes" | "tickets", UpstreamAuthorizationServer>;
  let search: OpenServer;
  let folder: string;
  let clientOf: (route: string, login?: "alice" | "bob") => Promise<McpClient>;
  const connect = async (...whose: Parameters<typeof clientOf>) => (await clientOf(...whose)).connect();

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "worked-example-"));
    closers.push(() => rm(folder, { recursive: true, force: true }));
    const company = keep(
      await openidProvider({
        clients: [
          {
            client_id: "mcp-gateway",
            client_secret: secrets.oidc,
            redirect_uris: ["https://auth.mcp.example.com/.pomerium/sign_in/callback"],
          },
        ],
      }),
    );
    for (const account of company.accounts) if (account.login === "alice") account.groups = ["analysts"];
    authorities = {
      notes: keep(await upstreamAuthorizationServer({ clients: [], scopes, dynamicRegistration: true })),
      tickets: keep(
        await upstreamAuthorizationServer({
          scopes,
          clients: [
            {
              client_id: "tickets-client",
              client_secret: secrets.tickets,
              redirect_uris: ["https://tickets.mcp.example.com/.pomerium/mcp/client/oauth/callback"],
            },
          ],
        }),
      ),
    };
    const vendor = async (authorizationServer: UpstreamAuthorizationServer) =>
      keep(await everythingServer({ authorizationServer, scopesSupported: scopes }));
    vendors = { notes: await vendor(authorities.notes), tickets: await vendor(authorities.tickets) };
    search = keep(await openServer());

    const { yaml, commands } = section();
    const ports = { 443: 0, 8101: 0, 8102: 0, 9090: 0, 8080: 0, 50051: 0 };
    const places: [string, string][] = [
      ["https://login.example.com", company.issuer],
      ["https://notes.vendor.example/mcp", vendors.notes.url],
      ["https://tickets.vendor.example/mcp", vendors.tickets.url],
      ["https://search.vendor.example/mcp", search.url],
      ["0.0.0.0:443", "127.0.0.1:443"],
      ["/srv/files", join(folder, "files")],
      ["/srv/memory.jsonl", join(folder, "memory.jsonl")],
    ];
    // Vendors on loopback, and a sidecar that does not listen where another may.
    let routes = `upstream_oauth: { allowed_private_hosts: [127.0.0.1] }
${yaml.replace(
  "listen: { envoy_secret:",
  'listen: { grpc: "127.0.0.1:50051", http: "127.0.0.1:8080", admin: "127.0.0.1:9090", envoy_secret:',
)}`;
    let script = `set -eu -o pipefail\n${commands}
until curl -sko /dev/null --connect-to ::127.0.0.1:443 https://auth.mcp.example.com/; do sleep 0.2; done
for port in 127.0.0.1:8101 127.0.0.1:8102; do until curl -fso /dev/null http://$port/ping; do sleep 0.2; done; done
echo && echo "${upLine}"
wait
`;
    for (const port of Object.keys(ports)) {
      const found = new RegExp(`(?<=127\\.0\\.0\\.1:|--port )${port}\\b`, "g");
      const free = String(await freePort());
      if (port === "443") ports[443] = Number(free);
      routes = replaceAll(routes, places).replaceAll(found, free);
      script = replaceAll(script, places).replaceAll(found, free);
    }
    const ca = await certificateAuthority(folder, ["*.mcp.example.com"]);
    copyFileSync(ca.files.certificate, join(folder, "wildcard.crt"));
    copyFileSync(ca.files.key, join(folder, "wildcard.key"));
    writeFileSync(join(folder, "routes.yaml"), routes, { mode: 0o600 });
    mkdirSync(join(folder, "files"));
    writeFileSync(join(folder, "files/readme.txt"), "from a server that speaks stdio");
    // npx takes what is installed here, and asks no registry.
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    command(join(folder, "envoy-mcp-auth"), `exec ${process.execPath} ${programFile} "$@"`);
    command(join(folder, "envoy"), `exec ${await envoyBinary()} --disable-hot-restart "$@"`);
    closers.push(
      await runCommands(folder, script, {
        ENCRYPTION_KEY: randomBytes(32).toString("base64"),
        ENVOY_SECRET: randomBytes(33).toString("base64"),
        OIDC_CLIENT_SECRET: secrets.oidc,
        TICKETS_CLIENT_SECRET: secrets.tickets,
        SEARCH_API_KEY: secrets.search,
      }),
    );

    const gateway = keep(loopbackFetch(ca.ca, ports[443]));
    const accounts = {
      alice: { login: "alice", password: "wonderland" },
      bob: { login: "bob", password: "builder" },
      there: { login: "ally", password: "looking-glass" },
    };
    const browsers = {
      alice: httpBrowser({ fetch: gateway.fetch }),
      bob: httpBrowser({ fetch: gateway.fetch }),
    };
    clientOf = async (route, login = "alice") => {
      const browser = browsers[login];
      return keep(
        await mcpClient({
          url: `https://${route}.mcp.example.com`,
          fetch: gateway.fetch,
          browse: async (url) =>
            browser.agree(await browser.open(url), (origin) =>
              origin === company.issuer ? accounts[login] : accounts.there,
            ),
        }),
      );
    };
  }, 120_000);
  afterAll(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });

  const called = async (client: Client, name: string, args: Record<string, unknown> = {}) =>
    JSON.stringify((await client.callTool({ name, arguments: args })).content);

  it("notes: discovered, registered, consented at the vendor", async () => {
    expect(await called(await connect("notes"), "whoami")).toContain("ally");
    expect(authorities.notes.counts).toMatchObject({ registrations: 1, tokens: { authorization_code: 1 } });
  });

  it("tickets: the client that was registered by hand", async () => {
    expect(await called(await connect("tickets"), "whoami")).toContain("ally");
    expect(authorities.tickets.counts).toMatchObject({ registrations: 0, tokens: { authorization_code: 1 } });
  });

  it("search: only the gateway sends the key", async () => {
    expect(await called(await connect("search"), "greet", { name: "Alice" })).toContain("Hello, Alice!");
    const sent = search.requests.at(-1)?.headers.filter(([name]) => name.toLowerCase() === "x-api-key");
    expect(sent?.map(([, value]) => value)).toEqual([secrets.search]);
  });

  it("files: a stdio server behind the bridge, without the tools that write", async () => {
    const client = await connect("files");
    const { tools } = await client.listTools();
    const names = tools.map(({ name }) => name);
    expect(names).toContain("read_text_file");
    for (const denied of ["write_file", "edit_file", "move_file", "create_directory"])
      expect(names).not.toContain(denied);
    // The bridge's response names the folders it may read.
    const [allowedFolder = ""] =
      /\/[^\s"\\]*files/.exec(await called(client, "list_allowed_directories")) ?? [];
    expect(await called(client, "read_text_file", { path: join(allowedFolder, "readme.txt") })).toContain(
      "from a server that speaks stdio",
    );
    const written = called(client, "write_file", { path: join(allowedFolder, "x"), content: "x" });
    await expect(written).rejects.toThrow(
      'MCP error -32602: The tool "write_file" is not allowed for you here. Do not call it again.',
    );
  });

  it("memory: a stdio server behind the bridge, for analysts only", async () => {
    const client = await connect("memory");
    const observed = { name: "gateway", entityType: "system", observations: ["has five routes"] };
    await called(client, "create_entities", { entities: [observed] });
    expect(await called(client, "read_graph")).toContain("has five routes");
    expect(readFileSync(join(folder, "memory.jsonl"), "utf8")).toContain("has five routes");
    await expect(connect("memory", "bob")).rejects.toThrow(/^access_denied: the policy of this gateway/);
  });

  it("a user who loses access gets a readable message, in connected and in new clients", async () => {
    const whole = await clientOf("files");
    const [files, search] = [await whole.connect(), await connect("search")];
    const list = () => called(files, "list_allowed_directories");
    await list();
    const file = join(folder, "routes.yaml");
    const before = readFileSync(file, "utf8");
    writeFileSync(file, before.replace("domain: { is: example.com }", "domain: { is: elsewhere.example }"));
    // On a route with tool rules, the body is read, and the response has the id of the call.
    const sentence = /^MCP error -32600: You do not have access to this server\.$/;
    // The file is reloaded in a moment.
    await vi.waitFor(() => expect(list()).rejects.toThrow(sentence), { timeout: 60_000, interval: 100 });
    await expect(whole.connect()).rejects.toThrow(sentence);
    // Elsewhere the id is unknown: SDKs show the body with the message.
    await expect(called(search, "greet", { name: "Alice" })).rejects.toThrow(
      '{"error":"not_allowed","error_description":"You do not have access to this server.","request_id":',
    );
  });
});
