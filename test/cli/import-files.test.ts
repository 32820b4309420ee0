// biome-ignore-all lint/suspicious/noTemplateCurlyInString: such references are what is tested
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { programFile } from "../../dev/demo/sidecar.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { composeErrors } from "../support/compose-errors.ts";
import { echo, servers } from "./imported.ts";

describe("import keeps secrets", () => {
  const secrets = ["env-s3cret", "arg-s3cret", "header-s3cret", "variable-s3cret", "url-s3cret"];
  const everywhere = {
    stdio: {
      command: "node",
      args: ["--api-key=arg-s3cret", "--token", "arg-s3cret", "postgres://u:url-s3cret@db/x", "${KEY}"],
      env: { A_KEY: "env-s3cret" },
    },
    remote: {
      url: "https://a.example/mcp",
      headers: { Authorization: "Bearer header-s3cret", "X-Region": "${KEY}" },
    },
  };
  const env = { KEY: "variable-s3cret" };

  it("in two files that only their owner can read, and nowhere else", () => {
    const done = servers(everywhere, { env });
    expect(done.status).toBe(0);
    const modes = Object.fromEntries(
      readdirSync(done.written).map((file) => [
        file,
        (statSync(join(done.written, file)).mode & 0o777).toString(8),
      ]),
    );
    expect(modes).toMatchObject({ "bridge.json": "600", "secrets.env": "600" });
    const readable = readdirSync(done.written).filter(
      (file) => !["bridge.json", "secrets.env"].includes(file),
    );
    expect(readable.length).toBeGreaterThan(3);
    for (const text of [done.out, done.err, ...readable.map(done.read)])
      for (const secret of secrets) expect(text).not.toContain(secret);
    // Each reader gets its own.
    expect(done.read("bridge.json")).not.toContain("header-s3cret");
    expect(done.read("secrets.env")).not.toContain("env-s3cret");
  });

  it("and says which arguments every process can read", () => {
    const done = servers(everywhere, { env });
    expect(done.out).toContain(
      "argument 1 (--api-key), argument 3 (after --token), argument 4 seems to contain a secret",
    );
  });

  it("with a token for the bridge, different for each import, which only the routes' variable names", () => {
    const [one, other] = [servers({ echo }), servers({ echo })];
    const token = one.secrets().MCP_BRIDGE_TOKEN ?? "";
    expect(token).toMatch(/^[\w-]{43}$/);
    expect(other.secrets().MCP_BRIDGE_TOKEN).not.toBe(token);
    expect(JSON.parse(one.read("bridge.json"))).toMatchObject({ host: "127.0.0.1", port: 8100, token });
    expect(one.route("echo").mcp.server?.upstream_auth).toEqual({
      headers: { Authorization: "Bearer ${MCP_BRIDGE_TOKEN}" },
    });
    for (const file of ["routes.yaml", "bridge.py", "mcp-bridge.service", "compose.bridge.yaml"])
      expect(one.read(file)).not.toContain(token);
  });

  it("when it replaces files, which it does only with --force: stored tokens stay readable", () => {
    const options = {
      signIn: "https://login.example.com",
      domain: "example.com",
      env: { OIDC_CLIENT_SECRET: "o-1" },
    };
    const first = servers(
      { gone: { url: "https://a.example", headers: { "X-Api-Key": "k" } }, echo },
      options,
    );
    const before = first.secrets();
    const again = servers({ echo }, { ...options, out: first.written });
    expect([again.status, again.err]).toEqual([
      1,
      expect.stringMatching(/already has routes.yaml.*add --force/),
    ]);
    const forced = servers({ echo }, { ...options, env: {}, out: first.written, force: true });
    expect(forced.status).toBe(0);
    const { MCP_GONE_X_API_KEY: gone, ...kept } = before;
    expect(gone).toBe("k");
    expect(forced.secrets()).toEqual(kept);
    expect(Object.keys(kept).sort()).toEqual([
      "ENCRYPTION_KEY",
      "ENVOY_SECRET",
      "MCP_BRIDGE_TOKEN",
      "OIDC_CLIENT_SECRET",
    ]);
  });

  it("away from links, and from folders that others can write to", () => {
    const folder = mkdtempSync(join(tmpdir(), "links-"));
    const victim = join(folder, "victim");
    writeFileSync(victim, "unchanged");
    mkdirSync(join(folder, "out"));
    symlinkSync(victim, join(folder, "out/routes.yaml"));
    expect(servers({ echo }, { out: join(folder, "out"), force: true }).status).toBe(0);
    expect(readFileSync(victim, "utf8")).toBe("unchanged");
    chmodSync(join(folder, "out"), 0o777);
    const open = servers({ echo }, { out: join(folder, "out"), force: true });
    expect([open.status, open.err]).toEqual([
      1,
      expect.stringContaining("every user of this machine can write to"),
    ]);
  });

  it("out of terminals: names cannot contain control characters", () => {
    const done = servers({ "a\u001b[2J\nleft out: fake": { ...echo, disabled: true }, "b\u001b[31m": echo });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(done.out + done.err).not.toMatch(/\u001b|\nleft out: fake/);
  });
});

describe("what import writes", () => {
  it("is a complete routes file without problems, if it knows the sign-in provider", () => {
    for (const from of ["http://localhost:8000", "http://{name}.localhost:8000"]) {
      const done = servers(
        {
          echo,
          keyed: {
            url: "https://a.example/mcp",
            headers: { "X-Api-Key": "k-1", "X-Mode": "fast", Accept: "x" },
          },
        },
        { from, aggregate: false, signIn: "https://login.example.com", domain: "example.com" },
      );
      expect(done.out).toContain("set in secrets.env: OIDC_CLIENT_SECRET");
      const env = { ...done.secrets(), OIDC_CLIENT_SECRET: "a-value-as-long-as-secrets-have-to-be-1" };
      const loaded = loadConfig(join(done.written, "routes.yaml"), env);
      expect(loaded.problems.map(formatProblem)).toEqual([]);
      expect(done.read("routes.yaml")).not.toContain("aggregate");
    }
  });

  it("reads alike in a shell, in systemd and in Compose", () => {
    const value = 'a b"$HOME`x`\\n#;%';
    const done = servers({
      a: { url: "https://a.example/mcp", headers: { "X-Api-Key": value, "X-Token": "it's" } },
    });
    const shell = spawnSync(
      "sh",
      ["-c", '. ./secrets.env; printf \'%s\\n\' "$MCP_A_X_API_KEY" "$MCP_A_X_TOKEN"'],
      {
        cwd: done.written,
        encoding: "utf8",
      },
    );
    expect(shell.stdout).toBe(`${value}\nit's\n`);
    expect(done.secrets()).toMatchObject({ MCP_A_X_API_KEY: value, MCP_A_X_TOKEN: "it's" });
  });

  it("restarts the bridge, by systemd and by Compose, on loopback and without rights", () => {
    const done = servers({ echo });
    const unit = done.read("mcp-bridge.service");
    for (const line of [
      "Restart=always",
      "NoNewPrivileges=yes",
      `LoadCredential=bridge.json:${done.written}/bridge.json`,
    ])
      expect(unit.split("\n")).toContain(line);
    const compose = parse(done.read("compose.bridge.yaml"));
    const { dockerfile_inline, ...build } = compose.services.bridge.build;
    expect(dockerfile_inline).toContain("fastmcp==");
    // Newer than the schema in the package.
    const described = {
      services: { bridge: { ...compose.services.bridge, build: { context: ".", ...build } } },
    };
    expect(composeErrors(described)).toBe("No errors");
    expect(compose.services.bridge).toMatchObject({
      network_mode: "service:envoy",
      restart: "unless-stopped",
      cap_drop: ["ALL"],
    });
    expect(compose.services.bridge.ports).toBeUndefined();
    expect(compose.services.bridge.user).not.toMatch(/^0:/);
  });

  it("is what the command writes", () => {
    const folder = mkdtempSync(join(tmpdir(), "import-"));
    writeFileSync(join(folder, "servers.json"), JSON.stringify({ mcpServers: { echo } }));
    const run = spawnSync(
      process.execPath,
      [programFile, "import", "servers.json", "--from", "https://mcp.example.com", "--out", "out"],
      {
        cwd: folder,
        encoding: "utf8",
      },
    );
    expect([run.status, run.stderr]).toEqual([0, ""]);
    expect(run.stdout).toContain("one URL for all of them: https://mcp.example.com/all");
    expect(run.stdout).toContain(
      "next, in out: uv run --script bridge.py; envoy-mcp-auth serve --config routes.yaml --xds-dir xds,",
    );
    expect(readdirSync(join(folder, "out")).sort()).toEqual([
      "bridge.json",
      "bridge.py",
      "compose.bridge.yaml",
      "mcp-bridge.service",
      "routes.yaml",
      "secrets.env",
    ]);
  });
});

describe("the recipe for a FastMCP gateway", () => {
  const section = readFileSync(join(import.meta.dirname, "../../docs/recipes.md"), "utf8").split(
    "## From a FastMCP gateway",
  )[1];
  it("has an entry and a command that work as written", () => {
    const [, entry = ""] = /```json\n(.*?)```/s.exec(section ?? "") ?? [];
    const [, command = ""] = /```sh\n(.*?)```/s.exec(section ?? "") ?? [];
    const folder = mkdtempSync(join(tmpdir(), "recipe-"));
    writeFileSync(join(folder, "mcp.json"), entry);
    const script = `envoy-mcp-auth() { ${process.execPath} ${programFile} "$@"; }\n${command}`;
    const run = spawnSync("bash", ["-c", script], { cwd: folder, encoding: "utf8" });
    expect([run.status, run.stderr]).toEqual([0, ""]);
    expect(run.stdout).toContain("one URL for all of them: https://mcp.example.com/all");
  });
});
