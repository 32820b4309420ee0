import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test } from "vitest";
import { freePort } from "../../../dev/demo/free-port.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "demo-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const settings = [
  "DEMO_PORT",
  "DEMO_OPENID_PORT",
  "DEMO_UPSTREAM_PORT",
  "DEMO_EVERYTHING_PORT",
  "DEMO_OPEN_PORT",
  "DEMO_GRPC_PORT",
  "DEMO_HTTP_PORT",
  "DEMO_ADMIN_PORT",
  "DEMO_ENVOY_ADMIN_PORT",
  "DEMO_MEMBERS_PORT",
];

type Child = ChildProcessByStdio<null, Readable, Readable>;

function start(program: string, env: Record<string, string> = {}): Child {
  return spawn(process.execPath, [join(import.meta.dirname, "../../../dev/demo", program)], {
    env: { ...process.env, ...env, DEMO_FOLDER: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** Processes whose command line contains our directory: the gateway, Envoy, and a watcher for each. */
function running(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      } catch {
        return [];
      }
    })
    .filter((line) => line.includes(folder));
}

async function untilPrinted(child: Child, wanted: string): Promise<string> {
  let printed = "";
  for await (const chunk of child.stdout) {
    printed += String(chunk);
    if (printed.includes(wanted)) return printed;
  }
  throw new Error(`ended without "${wanted}": ${printed}${await text(child.stderr)}`);
}

test("the demo runs the whole flow once and prints every step", async () => {
  const child = start("demo-once.ts");
  const [printed, errors, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "exit"),
  ]);
  expect(code, printed + errors).toBe(0);
  for (const step of [
    "registration",
    "consent at the gateway",
    "consent at the upstream",
    "streamed answer",
  ]) {
    expect(printed).toMatch(new RegExp(`✓ +\\d+\\. ${step}`));
  }
  expect(printed).toContain("each with one Authorization header: the upstream token");
  await expect.poll(running).toEqual([]);
});

test("the demo names the step that failed", async () => {
  const child = start("demo-once.ts", { ENVOY_BIN: "/bin/false" });
  const [printed, [code]] = await Promise.all([text(child.stdout), once(child, "exit")]);
  expect(code).toBe(1);
  expect(printed).toContain('✗ failed at step "start": ENVOY_BIN=/bin/false does not run');
  await expect.poll(running).toEqual([]);
});

test("the demo runs until Ctrl-C, prints what to enter, and leaves no processes running", async () => {
  const ports = await Promise.all(settings.map(async (name) => [name, String(await freePort())] as const));
  const env = Object.fromEntries(ports);
  const child = start("demo.ts", env);
  const printed = await untilPrinted(child, "metrics at");
  expect(printed).toContain(`https://localhost:${env.DEMO_PORT}/everything`);
  expect(printed).toContain("alice / wonderland");
  expect(printed).toContain("@modelcontextprotocol/inspector");
  for (const variable of ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
    expect(printed).toMatch(new RegExp(`\\b${variable}=\\S+/ca\\.pem `));
  expect(running()).toHaveLength(4);

  const second = start("demo.ts", env);
  const [refusal, [refused]] = await Promise.all([text(second.stderr), once(second, "exit")]);
  expect(refused).toBe(1);
  expect(refusal).toContain(
    `Port ${env.DEMO_PORT} is in use: stop the program that listens there, or set DEMO_PORT`,
  );
  expect(running(), "the first one goes on").toHaveLength(4);

  child.kill("SIGINT");
  const [code] = await once(child, "exit");
  expect(code).toBe(0);
  await expect.poll(running).toEqual([]);
});

test("a demo that is killed leaves no processes running either", async () => {
  const ports = await Promise.all(settings.map(async (name) => [name, String(await freePort())] as const));
  const child = start("demo.ts", Object.fromEntries(ports));
  await untilPrinted(child, "metrics at");
  child.kill("SIGKILL");
  await expect.poll(running, { timeout: 60_000 }).toEqual([]);
});
