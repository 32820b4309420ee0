// biome-ignore-all lint/suspicious/noTemplateCurlyInString: such references are what is tested
import { mkdtempSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { echo, imported, servers } from "./imported.ts";

describe("import reads", () => {
  it("servers of Claude, Cursor and Windsurf, with comments and trailing commas", () => {
    const done = imported(`{
      // a desktop client's
      "mcpServers": {
        "My Files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv/files"], "cwd": "/srv",},
        "remote": {"type": "http", "url": "https://notes.vendor.example/mcp"}, /* Windsurf: */
        "windsurf": {"serverUrl": "https://tickets.vendor.example/mcp", "disabledTools": ["drop"]},
      },
    }`);
    expect([done.status, done.err]).toEqual([0, ""]);
    expect(done.bridged()["my-files"]).toEqual({
      command: "npx",
      args: ["-y", "@modelcontextprotocol/server-filesystem", "/srv/files"],
      env: {},
      cwd: "/srv",
    });
    expect(done.route("my-files")).toMatchObject({
      name: "My Files",
      from: "https://mcp.example.com/my-files",
      to: "http://127.0.0.1:8100/servers/my-files/mcp",
    });
    expect(done.route("remote").to).toBe("https://notes.vendor.example/mcp");
    expect(done.route("windsurf").tools).toEqual({ deny: ["drop"] });
    expect(done.route("all")).toMatchObject({
      from: "https://mcp.example.com/all",
      mcp: { aggregate: { routes: ["my-files", "remote", "windsurf"] } },
    });
    expect(done.route("all").to).toBeUndefined();
  });

  it.each([
    ["VS Code", { servers: { echo: { type: "stdio", ...echo } } }],
    ["VS Code's settings", { mcp: { servers: { echo } } }],
    ["Zed", { context_servers: { echo: { command: { path: "node", args: ["echo.js"] } } } }],
    ["opencode", { mcp: { echo: { type: "local", command: ["node", "echo.js"], enabled: true } } }],
    ["FastMCP without mcpServers", { echo: { ...echo, transport: "stdio" } }],
    ["mcp-proxy", { mcpServers: { echo: { ...echo, enabled: true, timeout: 60 } } }],
    [
      "supergateway",
      {
        mcpServers: {
          echo: {
            command: "npx",
            args: ["-y", "supergateway", "--port", "8000", "--stdio", "node 'echo.js'"],
          },
        },
      },
    ],
    [
      "a bridge in front",
      {
        mcpServers: {
          echo: { command: "npx", args: ["mcp-proxy@6.7.19", "--port", "8101", "--", "node", "echo.js"] },
        },
      },
    ],
    ["Windows", { mcpServers: { echo: { command: "cmd", args: ["/c", "node", "echo.js"] } } }],
  ])("a stdio server of %s", (_, content) => {
    const done = imported(content);
    expect([done.status, done.err]).toEqual([0, ""]);
    expect(done.bridged().echo).toMatchObject({ command: "node", args: ["echo.js"] });
  });

  it.each([
    [
      "mcp-remote",
      "npx",
      [
        "-y",
        "mcp-remote@latest",
        "https://notes.vendor.example/mcp",
        "8080",
        "--transport",
        "http-only",
        "--header",
        "Authorization:${AUTH}",
      ],
    ],
    [
      "supergateway",
      "npx",
      [
        "-y",
        "supergateway",
        "--streamableHttp",
        "https://notes.vendor.example/mcp",
        "--oauth2Bearer",
        "a-secret",
      ],
    ],
    [
      "mcp-proxy",
      "uvx",
      [
        "mcp-proxy",
        "--transport=streamablehttp",
        "-H",
        "Authorization",
        "Bearer a-secret",
        "https://notes.vendor.example/mcp",
      ],
    ],
  ])("what %s leads to: the server itself, without the bridge", (_, command, args) => {
    const done = servers({ notes: { command, args, env: { AUTH: "Bearer a-secret" } } });
    expect([done.status, done.err]).toEqual([0, ""]);
    expect(done.route("notes")).toMatchObject({
      to: "https://notes.vendor.example/mcp",
      mcp: { server: { upstream_auth: { headers: { Authorization: "${MCP_NOTES_AUTHORIZATION}" } } } },
    });
    expect(done.secrets()).toEqual({ MCP_NOTES_AUTHORIZATION: "Bearer a-secret" });
    expect(readdirSync(done.written).sort()).toEqual(["routes.yaml", "secrets.env"]);
  });

  it("remote servers without credentials: OAuth at the vendor, none on this machine", () => {
    const done = servers({
      notes: { url: "https://notes.vendor.example/mcp" },
      local: { httpUrl: "http://localhost:3000/mcp", includeTools: ["search"] },
      keyed: { url: "https://a.example/mcp", auth: "key-of-fastmcp" },
    });
    expect(done.route("notes").mcp.server).toEqual({ request_headers: {} });
    expect(done.route("local")).toMatchObject({
      tools: { allow: ["search"] },
      mcp: { server: { upstream_auth: "none" } },
    });
    expect(done.secrets().MCP_KEYED_AUTHORIZATION).toBe("Bearer key-of-fastmcp");
  });

  it("a host per server, and names that are alike", () => {
    const done = servers(
      { "Git Hub": echo, git_hub: echo, all: echo, auth: echo, 日本: echo },
      { from: "https://{name}.mcp.example.com" },
    );
    expect(done.routes().map(({ from }) => from)).toEqual(
      ["git-hub", "git-hub-2", "all-2", "auth-2", "server", "all"].map(
        (name) => `https://${name}.mcp.example.com`,
      ),
    );
  });
});

describe("import resolves variables", () => {
  const env = { TOKEN: "t-1", INPUT_API_KEY: "k-1", HOME: "/home/me", EMPTY: "" };
  it("of every client, in env, args, cwd and headers", () => {
    const done = imported(
      {
        inputs: [
          { id: "api-key", type: "promptString", password: true },
          { id: "region", default: "eu" },
        ],
        servers: {
          echo: {
            command: "node",
            args: ["${userHome}/echo.js", "${env:MISSING:-fallback}"],
            cwd: "${HOME}",
            env: {
              A: "${TOKEN}",
              B: "${env:TOKEN}",
              C: "${input:api-key}",
              D: "${input:region}",
              E: "${EMPTY:-}",
              F: "a$b",
              G: null,
              H: 3,
            },
          },
          remote: {
            url: "https://${HOST:-api.vendor.example}/mcp",
            headers: { Authorization: "Bearer ${input:api-key}" },
          },
        },
      },
      { env },
    );
    expect(done.err).toBe("");
    // Whoever wrote the file chose where the values go.
    expect(done.out).toContain("it gets the values of TOKEN, INPUT_API_KEY, HOME from your environment");
    expect(done.bridged().echo).toEqual({
      command: "node",
      args: ["/home/me/echo.js", "fallback"],
      cwd: "/home/me",
      env: { A: "t-1", B: "t-1", C: "k-1", D: "eu", E: "", F: "a$b", H: "3" },
    });
    expect(done.route("remote").to).toBe("https://api.vendor.example/mcp");
    expect(done.secrets().MCP_REMOTE_AUTHORIZATION).toBe("Bearer k-1");
  });

  it("of an envFile, which env overrides", () => {
    const folder = mkdtempSync(join(tmpdir(), "env-file-"));
    writeFileSync(join(folder, ".env"), "A=1\nB='two words'\n");
    const done = servers({ echo: { ...echo, envFile: join(folder, ".env"), env: { A: "2" } } });
    expect(done.bridged().echo?.env).toEqual({ A: "2", B: "two words" });
  });
});

describe("import names each entry that it leaves out, with the fix", () => {
  it.each([
    [
      "disabled",
      { ...echo, disabled: true },
      "it is disabled in the file",
      "remove the line that disables it",
    ],
    [
      "not enabled",
      { ...echo, enabled: false },
      "it is disabled in the file",
      "remove the line that disables it",
    ],
    [
      "unset variables",
      { ...echo, env: { A: "${NOT_SET}" } },
      "the environment variable NOT_SET is not set",
      "set NOT_SET for this command",
    ],
    [
      "inputs",
      { ...echo, env: { A: "${input:my-key}" } },
      "${input:my-key} is asked for by the editor",
      "set INPUT_MY_KEY for this command",
    ],
    [
      "editors' folders",
      { ...echo, cwd: "${workspaceFolder}/x" },
      "${workspaceFolder} is a folder that only an editor knows",
      "write the path",
    ],
    ["nothing", { description: "x" }, "it has neither a command nor a URL", "add command and args, or url"],
    [
      "wrong types",
      { command: "x", args: "a b" },
      "args has an unexpected type",
      "write command as a text, args as a list",
    ],
    ["other schemes", { url: "ftp://a.example" }, "its URL is not an http or https URL", "write the URL"],
    [
      "WebSockets",
      { type: "ws", url: "https://a.example" },
      "it speaks MCP over WebSocket",
      "use the server's URL",
    ],
    [
      "secrets in a query",
      { url: "https://a.example/mcp?api_key=s3cret-value" },
      "its URL seems to contain a secret",
      "use a header",
    ],
    [
      "secrets in a path",
      { url: "https://a.example/s/Zm9vYmFyYmF6cXV4MTIz/mcp" },
      "its URL seems to contain a secret",
      "use a header",
    ],
    [
      "passwords in a URL",
      { url: "https://u:s3cret-value@a.example/mcp" },
      "its URL seems to contain a secret",
      "use a header",
    ],
    [
      "reserved headers",
      { url: "https://a.example/mcp", headers: { Cookie: "s3cret-value" } },
      "Cookie is reserved",
      "remove or change the header",
    ],
    [
      "empty headers",
      { url: "https://a.example/mcp", headers: { "X-Api-Key": "" } },
      "its header X-Api-Key is empty",
      "set it",
    ],
    [
      "unquotable headers",
      { url: "https://a.example/mcp", headers: { "X-Api-Key": `a'b"c` } },
      "the value of the header X-Api-Key",
      "remove or change the header",
    ],
    [
      "missing files",
      { ...echo, envFile: "missing.env" },
      "its envFile cannot be read",
      "make the file available",
    ],
  ])("%s", (name, entry, reason, fix) => {
    const done = servers({ [name]: entry, echo });
    expect(done.status).toBe(0);
    const line = done.err.split("\n").find((one) => one.startsWith(`left out: ${name}: ${reason}`));
    expect(line, done.err).toContain(`; ${fix}`);
    expect(done.routes().map(({ id }) => id)).toEqual(["echo", "all"]);
    for (const file of readdirSync(done.written)) expect(done.read(file)).not.toContain("s3cret-value");
    expect(done.out + done.err).not.toContain("s3cret-value");
  });

  it("writes nothing if nothing is left", () => {
    const done = servers({ off: { ...echo, disabled: true } });
    expect(done.status).toBe(1);
    expect(done.err).toContain("left out: off: it is disabled in the file; remove");
    expect(done.err).toContain("nothing was written");
    expect(statSync(done.written, { throwIfNoEntry: false })).toBeUndefined();
  });

  it.each([
    ["not JSON", '{"mcpServers": {\n  "a": {"env": {"KEY": s3cret-value}}}}', "line 2 is not valid JSON"],
    ["empty", "", 'the file is empty; write {"mcpServers":'],
    ["empty but for a line", "\uFEFF\n", "the file is empty"],
    ["no servers", "{}", "there is no mcpServers (or servers) in the file"],
    ["a list", "[1]", "the file is not a JSON object"],
  ])("a file that is %s", (_, text, message) => {
    const done = imported(text);
    expect(done.status).toBe(1);
    expect(done.err).toContain(message);
    expect(done.err).not.toContain("s3cret-value");
  });

  it.each([
    [{ from: "mcp.example.com" }, "--from mcp.example.com is not a URL; write https://mcp.example.com"],
    [{ from: "https://x-{name}.example.com" }, "{name} must be the first part of the host"],
    [
      { bridge: "0.0.0.0:8100" },
      "--bridge 0.0.0.0:8100 is not a loopback address with a port; write 127.0.0.1:8100",
    ],
    [{ aggregate: "../x" }, "--aggregate ../x is not a name"],
    [{ signIn: "https://login.example.com" }, "--sign-in needs --domain"],
  ])("arguments that cannot be used: %o", (options, message) => {
    const done = servers({ echo }, options);
    expect([done.status, done.err]).toEqual([1, expect.stringContaining(message)]);
  });
});
