import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { fastmcpVersion } from "../../src/import-servers/bridge-program.ts";
import { composeErrors } from "../support/compose-errors.ts";

const root = join(import.meta.dirname, "../..");
const read = (file: string) => readFileSync(join(root, file), "utf8");
/** A section of docs/stdio.md, by its heading. */
const section = (heading: string) =>
  read("docs/stdio.md")
    .split(/^##+ /m)
    .find((one) => one.startsWith(heading)) ?? "";
const blocks = (text: string, language: string) =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "gms"))].map(([, block]) => block ?? "");

/** Runs `import` as the page does, without a sign-in provider. */
function imported(servers: string) {
  const folder = mkdtempSync(join(tmpdir(), "stdio-docs-"));
  writeFileSync(join(folder, "servers.json"), servers);
  const command = ["import", "servers.json", "--out", "gateway", "--from", "https://mcp.example.com"];
  const run = spawnSync(process.execPath, [join(root, "src/main.ts"), ...command], {
    cwd: folder,
    encoding: "utf8",
  });
  expect([run.status, run.stderr]).toEqual([0, ""]);
  return (file: string) => readFileSync(join(folder, "gateway", file), "utf8");
}

describe("the quick path of docs/stdio.md", () => {
  it("has the trial provider's values, and lists tools with the bridge's FastMCP", () => {
    const page = read("docs/stdio.md");
    const provider = read("dev/demo/trial-provider.ts");
    const value = (of: string, pattern: RegExp) => pattern.exec(of)?.[1];
    const secret = value(page, /OIDC_CLIENT_SECRET=(\S+)/);
    expect(secret).toBe(value(provider, /client_secret: "(.*)"/));
    expect(value(page, /--client-id (\S+)/)).toBe(value(provider, /client_id: "(.*)"/));
    expect(value(page, /--sign-in http:\/\/127\.0\.0\.1:(\d+)/)).toBe(
      value(provider, /port: .* default: "(\d+)"/),
    );
    expect(value(page, /--from (\S+)/)).toBe(value(provider, /issuer: .* default: "(.*)"/));
    expect(value(page, /^uvx fastmcp@(\S+) list/m)).toBe(fastmcpVersion);
  });
});

describe("docs/stdio.md beyond its quick path", () => {
  const logs = blocks(section("Logs"), "json")[0] ?? "";

  it("Compose: the settings reach the members of the imported route, which check-config rejects without them", () => {
    const file = imported(logs);
    const [settings = "", override = ""] = blocks(section("With Compose"), "yaml");
    const own = parse(read("deploy/compose/routes.yaml"));
    const routes = [...own.routes, ...parse(file("routes.yaml")).routes];
    expect(routes.map(({ id }) => id)).toEqual(["everything", "memory", "all"]);
    const secret = "a-value-as-long-as-secrets-have-to-be-1";
    const names = ["ENVOY_SECRET", "OIDC_CLIENT_SECRET", "ADMIN_TOKEN", "MCP_BRIDGE_TOKEN"];
    const env = Object.fromEntries(names.map((name, index) => [name, `${secret}${index}`]));
    const problemsOf = (whole: object) => {
      const path = join(mkdtempSync(join(tmpdir(), "stdio-docs-")), "routes.yaml");
      writeFileSync(path, stringify(whole), { mode: 0o600 });
      return loadConfig(path, env).problems.map(formatProblem);
    };
    const { aggregation } = parse(settings);
    expect(problemsOf({ ...own, routes, aggregation })).toEqual([]);
    expect(problemsOf({ ...own, routes })).toEqual([
      expect.stringMatching(/Envoy is on another machine.*\n.*set aggregation\.through/),
    ]);

    // Where the settings point to exists in the Compose files.
    const { services } = parse(read("deploy/compose/compose.yaml"));
    const more = parse(override).services.sidecar;
    const through = new URL(aggregation.through);
    expect(own.envoy.listen.split(":").at(-1)).toBe(through.port);
    const shared = services[through.hostname].networks.filter((one: string) =>
      services.sidecar.networks.includes(one),
    );
    expect(shared).not.toEqual([]);
    expect(more.volumes.map((volume: string) => volume.split(":")[1])).toContain(aggregation.ca);
    expect(parse(file("secrets.env").replace("=", ": "))).toHaveProperty("MCP_BRIDGE_TOKEN");
    expect(composeErrors({ services: { sidecar: { image: "x", ...more } } })).toBe("No errors");
  });

  it("systemd: the page names the settings of the unit", () => {
    const unit = imported(logs)("mcp-bridge.service").split("\n");
    const page = section("With systemd");
    const named = [...page.matchAll(/\(`(\w+=\w+)`\)/g)].map(([, setting]) => setting);
    expect(named).toEqual(["ProtectSystem=full", "PrivateTmp=yes"]);
    for (const setting of named) expect(unit).toContain(setting);
    const path = /`(\/usr\/local\/bin:[^`]*)`/.exec(page)?.[1];
    expect(unit).toContain(`Environment=PATH=${path}`);
    expect(unit).toContain("WorkingDirectory=/var/lib/mcp-bridge");
    const [override = ""] = blocks(page, "ini");
    expect(override).toBe("[Service]\nPrivateTmp=no\n");
  });

  it("logs: a server that a shell starts keeps its command, and writes to a file of its own", () => {
    const { memory } = JSON.parse(imported(logs)("bridge.json")).servers;
    expect(memory).toEqual(JSON.parse(logs).mcpServers.memory);
    const folder = mkdtempSync(join(tmpdir(), "stdio-docs-"));
    const args = memory.args.map((arg: string) =>
      arg.replace(/npx .* 2>>/, "ls nowhere 2>>").replace("/var/log/mcp", folder),
    );
    spawnSync(memory.command, args, { env: { ...process.env, ...memory.env } });
    expect(readFileSync(join(folder, "memory.log"), "utf8")).toContain("nowhere");
  });
});
