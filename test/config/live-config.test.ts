import { execFile, execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import { createLiveConfig, type LiveConfig } from "../../src/config/live-config.ts";
import { buildChecked } from "../../src/config/load-config.ts";
import { loadOnThread } from "../../src/config/load-on-thread.ts";
import type { RouteTable } from "../../src/config/route-table.ts";
import { writeXdsDir } from "../../src/envoy-config/bootstrap.ts";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.ts";
import { configFile } from "./config-file.ts";

const routes = (upstream: string, extra = "") =>
  `issuer: https://auth.example.com\nsign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\npolicy: {allow: {or: [{accept: true}]}}\n${extra}routes:\n  - {id: r, from: https://h.example.com, to: "http://${upstream}", mcp: {}}\n`;

const open: LiveConfig[] = [];
const live = (file: string, metrics: Metrics = createMetrics()) => {
  const config = createLiveConfig({ file, env: {}, metrics });
  open.push(config);
  return config;
};
const changed = (config: LiveConfig) =>
  new Promise<{ table: RouteTable; needsRestart: readonly string[] }>((resolve) => {
    const stop = config.onChange((table, needsRestart) => {
      stop();
      resolve({ table, needsRestart });
    });
  });
const refused = (config: LiveConfig) =>
  new Promise<string>((resolve) => {
    const stop = config.onProblem((problem) => {
      stop();
      resolve(problem);
    });
  });
const upstream = (config: LiveConfig) => config.current().find("h.example.com", "/")?.upstream;
const value = async (metrics: Metrics, name: string) =>
  (await metrics.registry.getSingleMetric(`envoy_mcp_auth_${name}`)?.get())?.values;

afterEach(() => {
  for (const config of open.splice(0)) config.close();
});

describe("reloading the routes file", () => {
  it("a valid file takes effect immediately and atomically", async () => {
    const file = configFile(routes("one"));
    const config = live(file);
    const before = config.current();
    const change = changed(config);
    writeFileSync(file, routes("two"));
    expect((await change).table).toBe(config.current());
    expect(upstream(config)).toBe("http://two");
    expect(before.find("h.example.com", "/")?.upstream).toBe("http://one");
  });

  it("an invalid file is rejected: the old one stays in effect, and a problem and a metric report it until a valid one is loaded", async () => {
    const file = configFile(routes("one"));
    const metrics = createMetrics();
    const config = live(file, metrics);
    expect(config.lastProblem()).toBeUndefined();
    const refusal = refused(config);
    writeFileSync(file, routes("two").replace("mcp: {}", "mcp: {servr: {}}"));
    expect(await refusal).toMatch(/routes\.yaml:5:\d+: error: /);
    expect(upstream(config)).toBe("http://one");
    expect(config.lastProblem()).toMatch(/servr/);
    expect(config.lastProblems().length).toBeGreaterThan(0);
    expect(await value(metrics, "config_last_load_successful")).toMatchObject([{ value: 0 }]);
    const change = changed(config);
    writeFileSync(file, routes("three"));
    await change;
    expect(upstream(config)).toBe("http://three");
    expect(config.lastProblem()).toBeUndefined();
    expect(await value(metrics, "config_last_load_successful")).toMatchObject([{ value: 1 }]);
    expect(await value(metrics, "config_loads_total")).toMatchObject([
      { labels: { outcome: "loaded" }, value: 2 },
      { labels: { outcome: "rejected" }, value: 1 },
    ]);
  });

  it("detects a replacement by rename, and a file that disappears and returns", async () => {
    const file = configFile(routes("one"));
    const config = live(file);
    const change = changed(config);
    writeFileSync(`${file}.new`, routes("two"), { mode: 0o600 });
    renameSync(`${file}.new`, file);
    await change;
    const refusal = refused(config);
    renameSync(file, `${file}.away`);
    expect(await refusal).toMatch(/cannot be read \(ENOENT\)/);
    expect(upstream(config)).toBe("http://two");
  });

  it("detects the swap of Kubernetes' ..data link", async () => {
    const folder = mkdtempSync(join(tmpdir(), "configmap-"));
    const version = (name: string, upstreamHost: string) => {
      mkdirSync(join(folder, name));
      writeFileSync(join(folder, name, "routes.yaml"), routes(upstreamHost));
    };
    version("..2026_01", "one");
    symlinkSync("..2026_01", join(folder, "..data"));
    symlinkSync("..data/routes.yaml", join(folder, "routes.yaml"));
    const config = live(join(folder, "routes.yaml"));
    expect(upstream(config)).toBe("http://one");
    const change = changed(config);
    version("..2026_02", "two");
    symlinkSync("..2026_02", join(folder, "..data_tmp"));
    renameSync(join(folder, "..data_tmp"), join(folder, "..data"));
    await change;
    expect(upstream(config)).toBe("http://two");
  });

  it("reloads if a referenced secret changes", async () => {
    const secret = "database: {url: file:database-url}\n";
    const file = configFile(routes("one", ""));
    const url = join(dirname(file), "database-url");
    writeFileSync(url, "postgres://one");
    writeFileSync(file, routes("one", secret));
    const config = live(file);
    const change = changed(config);
    writeFileSync(url, "postgres://two");
    expect((await change).needsRestart).toEqual(["database.url"]);
    expect(config.current().config.database.url).toBe("postgres://one");
  });

  it("keeps settings that are read at startup until a restart, also in Envoy's files", async () => {
    const file = configFile(routes("one"));
    const config = live(file);
    const written = () => {
      const folder = mkdtempSync(join(tmpdir(), "xds-"));
      return writeXdsDir(config.current().config, folder).map((name) =>
        readFileSync(name, "utf8").replaceAll(folder, ""),
      );
    };
    const before = written();
    const { listen, paths } = config.current().config;
    const moved = `listen: {grpc: "127.0.0.1:7001", http: "127.0.0.1:7002"}\npaths: {prefix: /.gate}\n`;
    const change = changed(config);
    writeFileSync(file, routes("one", moved));
    expect((await change).needsRestart).toEqual(["listen.grpc", "listen.http", "paths.prefix"]);
    expect(config.current().config).toMatchObject({ listen, paths });
    expect(config.current().isOwnPath("h.example.com", "/.pomerium/routes")).toBe(true);
    expect(config.current().isOwnPath("h.example.com", "/.gate/routes")).toBe(false);
    expect(written()).toEqual(before);
    config.setStoredRoutes([
      { id: "s", entry: { from: "https://h.example.com/.pomerium/s", to: "http://x", mcp: { server: {} } } },
    ]);
    expect(config.storedProblems().get("s")?.[0]?.message).toMatch(
      /\/\.pomerium is served by the gateway itself/,
    );
    config.setStoredRoutes([]);

    const next = changed(config);
    writeFileSync(file, routes("two", `${moved}envoy: {sidecar: {http: ["127.0.0.1:7003"]}}\n`));
    expect((await next).needsRestart).toEqual(["listen.grpc", "listen.http", "paths.prefix"]);
    expect(upstream(config)).toBe("http://two");
    expect(written().join()).toContain("two");
    expect(written().join()).not.toMatch(/700[123]|\.gate/);

    const back = changed(config);
    writeFileSync(file, routes("two", `envoy: {sidecar: {http: ["127.0.0.1:7003"]}}\n`));
    expect((await back).needsRestart).toEqual([]);
    expect(written().join()).toContain("7003");
    const restarted = live(configFile(routes("one", moved))).current();
    expect(restarted.config).toMatchObject({
      listen: { grpc: "127.0.0.1:7001" },
      paths: { prefix: "/.gate" },
    });
    expect(restarted.config.envoy.sidecar.grpc).toEqual(["127.0.0.1:7001"]);
  });

  it("every key takes effect, or is named as waiting for a restart and keeps its value everywhere", async () => {
    const file = configFile(routes("one"));
    const before = live(file).current().config;
    const waiting = changed(open[0] as LiveConfig);
    writeFileSync(
      file,
      routes(
        "one",
        'check: {deadline: 4s, max_header_bytes: 50KiB}\nlimits: {log_lines: 7, cache_entries: 300, metadata_cache_entries: 9, token_cache_bytes: 2MiB, body_bytes: 8KiB}\naudit: {retention: 30d, export: {http: {url: "https://collector.example.com/audit"}}}\nlog: {level: warn, decisions: all}\n',
      ),
    );
    const { table, needsRestart } = await waiting;
    expect(needsRestart).toEqual([
      "check.max_header_bytes",
      "limits.cache_entries",
      "limits.metadata_cache_entries",
      "limits.token_cache_bytes",
      "audit.retention",
      "audit.export.http",
    ]);
    const { check, limits, log, audit } = table.config;
    expect({ check, limits, log, audit }).toEqual({
      check: { ...before.check, deadlineMs: 4000 },
      limits: { ...before.limits, logLines: 7, bodyBytes: 8192 },
      log: { level: "warn", decisions: "all" },
      audit: before.audit,
    });
  });

  it("names egress, whose new value is in effect, if key services keep the previous one", async () => {
    const keys = "encryption: {keys: [{kid: aws, aws_kms: {key: alias/gateway}}]}\n";
    const file = configFile(routes("one", keys));
    const config = live(file);
    const change = changed(config);
    writeFileSync(file, routes("one", `${keys}egress: {https_proxy: "http://proxy.example.com:3128"}\n`));
    expect((await change).needsRestart).toEqual(["egress"]);
    expect(config.current().config.upstreamOAuth.proxies.https).toBe("http://proxy.example.com:3128");
  });

  it("fails at startup if the file is invalid", () => {
    expect(() => live(configFile("routes: []"))).toThrow(expect.objectContaining({ code: "invalid_config" }));
  });
});

describe("reloading a large routes file", () => {
  const oauth = `{upstream_oauth2: {client_id: c, client_secret: "file:secret", endpoint: {auth_url: "https://as.example.com/authorize", token_url: "https://as.example.com/token"}}}`;
  const large = (upstreamHost: string, { count = 600, more = "", top = "" } = {}) =>
    routes(upstreamHost, top) +
    Array.from(
      { length: count },
      (_, n) =>
        `  - {id: r${n}, from: "https://big.example.com/r${n}", to: "https://up${n}.example.com", mcp: {server: ${oauth}}}\n`,
    ).join("") +
    more;
  const largeFile = (text: string) => {
    const file = configFile(text);
    writeFileSync(join(dirname(file), "secret"), "first-secret", { mode: 0o600 });
    return file;
  };
  const settings = (table: RouteTable) => JSON.stringify(table.config);

  it("leads to what a start with it leads to, with the same warnings at the same places", async () => {
    const file = largeFile(large("one"));
    const config = live(file);
    const change = changed(config);
    writeFileSync(
      file,
      large("two", { more: "  - {from: https://last.example.com, to: http://last, mcp: {}}\n" }),
    );
    await change;
    const started = live(file);
    expect(upstream(config)).toBe("http://two");
    expect(config.current().config).toEqual(started.current().config);
    expect(config.lastProblems().length).toBeGreaterThanOrEqual(600);
    expect(config.lastProblems()).toEqual(started.lastProblems());
  });

  it("does not hold up the event loop", async () => {
    const file = largeFile(large("one", { count: 3_000 }));
    let turns = 0;
    let turning = globalThis.setImmediate(function turn() {
      turns++;
      turning = globalThis.setImmediate(turn);
    });
    try {
      const { problems, files, parsed } = await loadOnThread(file, {}, {});
      if (!parsed) throw new Error(JSON.stringify(problems));
      expect(turns).toBeGreaterThan(100);
      turns = 0;
      const given = { file, env: {}, options: {}, parsed, files };
      expect(await buildChecked(given)).toMatchObject({ routes: { length: 3_001 } });
      expect(turns).toBeGreaterThan(2);
    } finally {
      clearImmediate(turning);
    }
  });

  it.each([
    [
      "a setting that does not exist",
      "  - {id: x, from: https://x.example.com, to: http://x, mcp: {servr: {}}}\n",
      /servr/,
    ],
    [
      "a conflict between routes",
      "  - {id: x, from: https://big.example.com/r5, to: http://x, mcp: {}}\n",
      /already claimed/,
    ],
    ["text that is not YAML", "  - {id: [\n", /not valid YAML/],
  ])("rejects %s, at its place", async (_what, more, problem) => {
    const file = largeFile(large("one"));
    const config = live(file);
    const refusal = refused(config);
    writeFileSync(file, large("two", { more }));
    const text = await refusal;
    expect(text).toMatch(problem);
    expect(text).toMatch(/routes\.yaml:60[67]:/);
    expect(upstream(config)).toBe("http://one");
  });

  it("takes a changed secret over", async () => {
    const file = largeFile(large("one"));
    const config = live(file);
    const change = changed(config);
    writeFileSync(join(dirname(file), "secret"), "second-secret");
    await change;
    expect(settings(config.current())).toMatch(/second-secret/);
    expect(settings(config.current())).not.toMatch(/first-secret/);
  });

  it("uses what it has checked, though a file changes meanwhile, and then checks the change", async () => {
    const file = largeFile(large("one"));
    const proxy = join(dirname(file), "proxy");
    const readEnd = `${proxy}.pipe`;
    execFileSync("mkfifo", ["-m", "600", proxy]);
    linkSync(proxy, readEnd);
    const config = live(file);
    const change = changed(config);
    writeFileSync(file, large("two", { top: 'egress: {https_proxy: "file:proxy"}\n' }));
    // The thread waits for what it reads; from now on, the path leads to a proxy that the checks reject.
    const pipe = await openWhenRead(readEnd);
    writeFileSync(`${proxy}.new`, "socks5://proxy.example.com", { mode: 0o600 });
    renameSync(`${proxy}.new`, proxy);
    const refusal = refused(config);
    writeSync(pipe, "http://proxy.example.com:3128");
    closeSync(pipe);
    await change;
    expect(upstream(config)).toBe("http://two");
    expect(config.current().config.upstreamOAuth.proxies.https).toBe("http://proxy.example.com:3128");
    expect(await refusal).toMatch(/not an http or https URL/);
    expect(config.current().config.upstreamOAuth.proxies.https).toBe("http://proxy.example.com:3128");
  });

  it("goes on after a fault of the file system", async () => {
    const file = largeFile(large("one"));
    const config = live(file);
    const refusal = refused(config);
    renameSync(file, `${file}.away`);
    symlinkSync(file, file);
    expect(await refusal).toMatch(/cannot be read \(ELOOP\)/);
    const change = changed(config);
    writeFileSync(`${file}.away`, large("two"));
    renameSync(`${file}.away`, file);
    await change;
    expect(upstream(config)).toBe("http://two");
  });

  it("is rejected like an invalid file if it cannot be built although it was checked, and is not tried again unchanged", async () => {
    const file = largeFile(large("one"));
    let reads = 0;
    // The thread has the variable, and this process no longer does.
    const env = Object.defineProperty({}, "PROXY", {
      enumerable: true,
      get: () => (reads++ === 0 ? "http://proxy.example.com:3128" : undefined),
    });
    const metrics = createMetrics();
    const config = createLiveConfig({ file, env, metrics });
    open.push(config);
    const refusals: string[] = [];
    config.onProblem((problem) => void refusals.push(problem));
    const refusal = refused(config);
    writeFileSync(file, large("two", { top: `egress: {https_proxy: "$${"{PROXY}"}"}\n` }));
    expect(await refusal).toMatch(/the file was checked, but cannot be built: .*PROXY/);
    expect(config.lastProblem()).toContain("save the file again or restart");
    expect(upstream(config)).toBe("http://one");
    expect(await value(metrics, "config_last_load_successful")).toMatchObject([{ value: 0 }]);

    const change = changed(config);
    writeFileSync(join(dirname(file), "unrelated"), "causes an event");
    writeFileSync(file, large("three"));
    await change;
    expect(upstream(config)).toBe("http://three");
    expect([refusals.length, config.lastProblem()]).toEqual([1, undefined]);
    expect(await value(metrics, "config_loads_total")).toContainEqual({
      labels: { outcome: "rejected" },
      value: 1,
    });
  });

  it("is a problem of the file if its memory is missing: the process goes on", async () => {
    const file = largeFile(large("one", { count: 10_000 }));
    const module = new URL("../../src/config/load-on-thread.ts", import.meta.url).href;
    const program = `const { loadOnThread } = await import(process.argv[1]);
      const serving = setInterval(() => {}, 1_000);
      const { problems, parsed } = await loadOnThread(process.argv[2], {}, {});
      console.log(JSON.stringify({ problems, parsed }));
      clearInterval(serving);`;
    const flags = ["--max-old-space-size=128", "--input-type=module", "-e", program];
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, module, file]);
    expect(JSON.parse(stdout)).toEqual({
      problems: [
        expect.objectContaining({ severity: "error", message: expect.stringContaining("not enough memory") }),
      ],
    });
  });

  it("is a problem of the file if the thread ends: the old one stays in effect", async () => {
    const file = largeFile(large("one", { count: 3_000 }));
    const stopping = new AbortController();
    const loading = loadOnThread(file, {}, {}, stopping.signal);
    stopping.abort();
    expect(await loading).toMatchObject({
      problems: [{ message: expect.stringMatching(/another thread \(ABORT_ERR\)/) }],
    });
  });
});

/** Opens a named pipe once somebody reads it. */
async function openWhenRead(path: string): Promise<number> {
  for (;;) {
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENXIO")) throw error;
      await setImmediate();
    }
  }
}
