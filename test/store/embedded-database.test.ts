import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { programFile } from "../../dev/demo/sidecar.ts";
import { serve } from "../../src/serve.ts";
import { copyEmbeddedTestDatabase } from "../support/embedded-database.ts";

/** The embedded database serves one process at a time; an operator who runs a command at the same time needs a clear error. */
describe("commands while a sidecar uses the embedded database", () => {
  let folder: string;
  let file: string;
  let sidecar: Awaited<ReturnType<typeof serve>>;
  const env = { ENCRYPTION_KEY: Buffer.alloc(32, 1).toString("base64url") };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "embedded-"));
    file = join(folder, "routes.yaml");
    const anyPort = "127.0.0.1:0";
    const config = {
      issuer: "https://auth.test",
      listen: { grpc: anyPort, http: anyPort, admin: anyPort, grpc_authentication: "none" },
      database: { dir: join(folder, "data") },
      sign_in: { providers: [{ issuer: "https://id.test", client_id: "c" }] },
      policy: { allow: { or: [{ accept: true }] } },
      routes: [{ id: "a", from: "https://a.test", to: "http://127.0.0.1:1", mcp: {} }],
      log: { level: "error" },
    };
    await writeFile(file, stringify(config), { mode: 0o600 });
    await copyEmbeddedTestDatabase(join(folder, "data"));
    sidecar = await serve({ file, env });
  });
  afterAll(async () => {
    await sidecar?.close().catch(() => {});
    await rm(folder, { recursive: true, force: true });
  });

  async function command(...args: string[]) {
    const { DATABASE_URL: _, ...inherited } = process.env;
    const options = { env: { ...inherited, ...env } };
    return promisify(execFile)(process.execPath, [programFile, ...args, "--config", file], options);
  }

  it.each(["migrate", "rotate-keys", "connections list"])(
    "%s names the process that uses it and the fix, in one line, and changes nothing",
    async (line) => {
      const message = `database.dir ${join(folder, "data")} is in use by process ${process.pid}: the embedded database serves one process at a time; stop that one, or set database.url (DATABASE_URL) to a Postgres server`;
      await expect(command(...line.split(" "))).rejects.toMatchObject({
        code: 1,
        stdout: "",
        stderr: `envoy-mcp-auth: ${message}\n`,
      });
      const ready = await fetch(`http://${sidecar.admin}/readyz`);
      expect(await ready.json()).toMatchObject({ status: "ok" });
    },
  );

  it("check-config and envoy-config need no database", async () => {
    await command("check-config");
    expect((await command("envoy-config")).stdout).toContain("sidecar_grpc");
  });

  it("they work after the sidecar has stopped", async () => {
    await sidecar.close();
    expect((await command("grants", "list")).stdout).toMatch(/^(GRANT|USER)/);
  });
});
