import { execFile } from "node:child_process";
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadConfig } from "../../src/config/load-config.ts";
import { startAdmin } from "../admin/start-admin.ts";
import { connected } from "../support/database-pool.ts";

const main = join(import.meta.dirname, "../../src/main.ts");

/** The commands as processes, beside two replicas that chain events. */
describe("a record of who did what", () => {
  let stack: Awaited<ReturnType<typeof startAdmin>>;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "audit-"));
    stack = await startAdmin({ replicas: 2 });
  });
  afterAll(async () => {
    await stack?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const command = (...args: string[]) => anyCommand("audit", ...args);
  const anyCommand = (name: string, ...args: string[]) =>
    new Promise<{ code: number; out: string; err: string }>((resolve) => {
      const child = execFile(
        process.execPath,
        [
          main,
          name,
          ...args,
          ...(args[0] === "verify" && args[1]?.startsWith("/") ? [] : ["--config", stack.file]),
        ],
        { env: { ...process.env, ...stack.env } },
        (_error, out, err) => resolve({ code: child.exitCode ?? -1, out, err }),
      );
    });
  const query = (text: string) => connected(stack.env.DATABASE_URL, (client) => client.query(text));
  const write = (name: string) =>
    query(`insert into audit_event (action, route_id) values ('route.created', '${name}')`);
  const path = (name: string) => join(folder, name);
  const ids = async (name: string) =>
    (await readFile(path(name), "utf8"))
      .trim()
      .split("\n")
      .map((line): { id?: number; checkpoint?: number } => JSON.parse(line));
  /** Until every event is in the file. */
  const exported = async (name: string, count: number) => {
    await expect
      .poll(
        async () => {
          expect(await command("export", "--output", path(name))).toMatchObject({ code: 0 });
          return (await ids(name)).filter(({ id }) => id !== undefined).length;
        },
        { timeout: 60_000 },
      )
      .toBe(count);
  };

  it("events are chained while replicas run; an export continues its file, which verifies without the database", async () => {
    for (const name of ["a", "b"]) await write(name);
    await exported("trail.jsonl", 2);
    // A batch that was not written to its end is written again.
    await appendFile(path("trail.jsonl"), '{"id":3,"action":"route.cre');
    await write("c");
    await exported("trail.jsonl", 3);
    const checkpoints = (await ids("trail.jsonl")).flatMap(({ checkpoint }) => checkpoint ?? []);
    expect(checkpoints).toEqual(Array.from(checkpoints, (_, n) => n + 1));

    const keys = await command("keys");
    expect(Object.keys(JSON.parse(keys.out).keys[0]).sort()).toEqual([
      "alg",
      "crv",
      "kid",
      "kty",
      "use",
      "x",
      "y",
    ]);
    await writeFile(path("keys.json"), keys.out);
    const files = [path("trail.jsonl"), "--keys", path("keys.json")];
    const verified = await command("verify", ...files);
    expect(verified).toMatchObject({ code: 0, err: "" });
    expect(verified.out).toMatch(/^3 events in \d+ batches .*\nno problem was found\n$/);
    expect(await command("verify", path("trail.jsonl"))).toMatchObject({
      code: 1,
      err: expect.stringContaining("--keys"),
    });
  });

  it.each([
    [
      "changed",
      (lines: string[]) => lines.map((line) => line.replace('"route_id":"b"', '"route_id":"x"')),
      "changed",
    ],
    ["removed", (lines: string[]) => lines.filter((line) => !line.includes('"route_id":"b"')), "missing"],
    [
      "added",
      (lines: string[]) =>
        lines.flatMap((line) =>
          line.includes('"route_id":"b"') ? [line, line.replace(/"id":\d+/, '"id":99')] : [line],
        ),
      "added",
    ],
    [
      "whose batch was removed",
      (lines: string[]) => lines.filter((line) => !line.startsWith('{"checkpoint":2,')),
      "batch_missing",
    ],
  ])("an event that was %s in an exported file is found", async (_, change, problem) => {
    const lines = (await readFile(path("trail.jsonl"), "utf8")).split("\n");
    await writeFile(path("other.jsonl"), change(lines).join("\n"));
    const { code, out } = await command("verify", path("other.jsonl"), "--keys", path("keys.json"), "--json");
    expect(code).toBe(1);
    expect(JSON.parse(out).problems).toContainEqual(expect.objectContaining({ problem }));
  });

  it("follows the trail until it is interrupted, as CloudEvents", async () => {
    const args = [main, "audit", "export", "--follow", "--format", "cloudevents", "--config", stack.file];
    const child = execFile(process.execPath, args, { env: { ...process.env, ...stack.env } });
    let out = "";
    child.stdout?.on("data", (text: string) => {
      out += text;
    });
    await expect.poll(() => out, { timeout: 60_000 }).toContain('"route_id":"c"');
    await write("d");
    await expect.poll(() => out, { timeout: 60_000 }).toContain('"route_id":"d"');
    const ended = new Promise((resolve) => child.on("exit", resolve));
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
    const [event] = out.split("\n").filter((line) => line.includes("route.created"));
    expect(JSON.parse(event ?? "")).toMatchObject({
      ...{ specversion: "1.0", source: "https://auth.test", type: "envoy-mcp-auth.route.created" },
      data: { action: "route.created", route_id: "a" },
    });
  });

  it("the examples of docs/audit.md do what the page says", async () => {
    const page = await readFile(join(import.meta.dirname, "../../docs/audit.md"), "utf8");
    const examples = [...page.matchAll(/^envoy-mcp-auth audit (.*?)(?: +#.*)?$/gm)].map(
      ([, args]) => args ?? "",
    );
    expect(examples.length).toBeGreaterThan(6);
    for (const example of examples.filter((one) => !one.includes("--follow"))) {
      const [args = "", target] = example.split(" > ");
      const words = args.split(" ").map((word) => (/\.jsonl?$/.test(word) ? path(word) : word));
      const { code, out, err } = await command(...words);
      expect([example, code, err]).toEqual([example, 0, ""]);
      if (target !== undefined) await writeFile(path(target), out);
    }
    const [, yaml = ""] = /```yaml\n(audit:[\s\S]*?)```/.exec(page) ?? [];
    await writeFile(path("routes.yaml"), `${await readFile(stack.file, "utf8")}${yaml}`, { mode: 0o600 });
    const loaded = loadConfig(path("routes.yaml"), { ...stack.env, COLLECTOR_TOKEN: "secret" });
    expect(loaded.ok && loaded.config.audit.http).toEqual({
      url: "https://collector.example.com/audit",
      headers: { authorization: "Bearer secret" },
      format: "cloudevents",
    });
  });

  it("a checkpoint of the log is enough to find that the end is missing", async () => {
    const lines = (await readFile(path("trail.jsonl"), "utf8")).trim().split("\n");
    const last = lines.map((line) => JSON.parse(line)).findLast(({ jws }) => jws !== undefined);
    await writeFile(path("log.jsonl"), `${JSON.stringify({ jws: last.jws })}\n`);
    const kept = lines.slice(
      0,
      lines.findLastIndex((line) => line.includes('"route_id":"c"')),
    );
    await writeFile(path("cut.jsonl"), `${kept.join("\n")}\n`);
    const cut = await command(
      ...["verify", path("cut.jsonl"), "--keys", path("keys.json"), "--checkpoints", path("log.jsonl")],
    );
    expect(cut).toMatchObject({ code: 1, out: expect.stringMatching(/^the files end with batch \d+/) });
  });

  it("what the previous key has signed still verifies after a rotation, which cannot revoke it", async () => {
    expect(await anyCommand("rotate-signing-key", "audit", "--revoke-old")).toMatchObject({
      ...{ code: 1, err: expect.stringContaining("unverifiable") },
    });
    expect(await anyCommand("rotate-signing-key", "audit", "--activate-after", "1s")).toMatchObject({
      ...{ code: 0, out: expect.stringContaining("older keys still verify") },
    });
    expect(JSON.parse((await command("keys")).out).keys).toHaveLength(2);
    await write("e");
    await exported("trail.jsonl", 6);
    expect(await command("verify", "--checkpoints", path("trail.jsonl"))).toMatchObject({ code: 0 });
  });

  it("the database verifies; with checkpoints of an earlier export, a missing end is found", async () => {
    await exported("trail.jsonl", 6);
    expect(await command("verify", "--checkpoints", path("trail.jsonl"))).toMatchObject({ code: 0 });
    await query("update audit_event set route_id = 'x' where route_id = 'c'");
    const changed = await command("verify");
    expect(changed).toMatchObject({ code: 1, err: "" });
    expect(changed.out).toMatch(/^event 3 was changed \(batch \d+\)\n/);
    await query(`
      delete from audit_event where id >= 3;
      delete from audit_batch where last_id >= 3`);
    const cut = await command("verify", "--checkpoints", path("trail.jsonl"), "--json");
    expect(cut.code).toBe(1);
    expect(JSON.parse(cut.out).problems).toContainEqual(
      expect.objectContaining({ problem: expect.stringMatching(/cut|rewritten/) }),
    );
  });
});
