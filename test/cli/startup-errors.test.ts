import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { freePort } from "../../dev/demo/free-port.ts";
import { programFile } from "../../dev/demo/sidecar.ts";
import { createTestDatabase } from "../support/postgres.ts";

/** An account without rights, if this process may use one. */
const nobody = process.getuid?.() === 0 ? 65_532 : undefined;

let root: string;
let folder: string;
let postgres: Awaited<ReturnType<typeof createTestDatabase>>;
const key = randomBytes(32).toString("base64url");
beforeAll(async () => {
  postgres = await createTestDatabase();
  root = await mkdtemp(join(tmpdir(), "startup-"));
  chmodSync(root, 0o755);
});
afterAll(async () => {
  await postgres?.close();
  await rm(root, { recursive: true, force: true });
});
let number = 0;
beforeEach(() => {
  folder = join(root, String(number++));
  mkdirSync(folder);
});

/** Addresses that never overlap. */
const sockets = () => ({ grpc: `unix:${folder}/grpc.sock`, http: `unix:${folder}/http.sock` });

/** Starts `serve`, which is expected to fail. @returns its standard error */
async function failure(
  config: { listen?: object; [key: string]: unknown } = {},
  options: { args?: readonly string[]; env?: object; uid?: number } = {},
): Promise<string> {
  const free = async () => `127.0.0.1:${await freePort()}`;
  const file = join(folder, "routes.yaml");
  const routes = {
    issuer: "https://mcp.example.com",
    sign_in: { providers: [{ issuer: "https://id.example.com", client_id: "c" }] },
    policy: [{ allow: { and: [{ authenticated_user: true }] } }],
    routes: [{ from: "https://mcp.example.com/notes", to: "http://127.0.0.1:1", mcp: { server: {} } }],
    ...config,
    listen: {
      grpc: await free(),
      http: await free(),
      admin: await free(),
      envoy_secret: "x".repeat(44),
      ...config.listen,
    },
  };
  // Readable for its user only, since it contains a secret.
  writeFileSync(file, stringify(routes), { mode: 0o600 });
  const { uid } = options;
  if (uid !== undefined) chownSync(file, uid, uid);
  const { DATABASE_URL: _url, ...env } = process.env;
  const embedded = config.database !== undefined || uid !== undefined;
  const database = embedded ? {} : { DATABASE_URL: postgres.url };
  const args = [programFile, "serve", "--config", file, ...(options.args ?? [])];
  const child = spawnSync(process.execPath, args, {
    encoding: "utf8",
    cwd: folder,
    env: { ...env, ENCRYPTION_KEY: key, ...database, ...options.env },
    timeout: 120_000,
    ...(uid !== undefined && { uid, gid: uid }),
  });
  expect(child.status).toBe(1);
  // Neither a stack trace nor a second line.
  expect(child.stderr).toMatch(/^envoy-mcp-auth: .+\n$/);
  return child.stderr;
}

describe("serve says in one line which setting it cannot use, why, and what to do:", () => {
  it("a database folder that cannot be created", async () => {
    writeFileSync(join(folder, "file"), "");
    expect(await failure({ database: { dir: "file/data" } })).toContain(
      `database.dir: cannot use ${folder}/file/data: not a directory (ENOTDIR); make it a folder that this process's user`,
    );
  });

  it.runIf(nobody)("a database folder in a read-only folder", async () => {
    expect(await failure({}, { uid: nobody })).toBe(
      `envoy-mcp-auth: database.dir: cannot use ${folder}/data: permission denied (EACCES); make it a folder that this process's user (uid ${nobody}) can write to, or set database.url (DATABASE_URL) to a Postgres server\n`,
    );
  });

  it.runIf(nobody)("a database that belongs to another user", async () => {
    mkdirSync(join(folder, "data/database"), { recursive: true, mode: 0o700 });
    chownSync(join(folder, "data"), nobody ?? 0, nobody ?? 0);
    expect(await failure({}, { uid: nobody })).toContain(
      `database.dir: cannot use ${folder}/data/database: permission denied (EACCES)`,
    );
  });

  it.runIf(nobody)("a database encryption key that belongs to another user", async () => {
    mkdirSync(join(folder, "data"));
    writeFileSync(join(folder, "data/encryption-key"), "x", { mode: 0o600 });
    chownSync(join(folder, "data"), nobody ?? 0, nobody ?? 0);
    expect(await failure({}, { uid: nobody })).toContain(
      `database.dir: cannot read ${folder}/data/encryption-key: permission denied (EACCES); make it readable for`,
    );
  });

  it("a missing encryption key file", async () => {
    expect(await failure({ encryption: { keys: [{ kid: "k", file: "key" }] } })).toContain(
      `encryption.keys[0].file: cannot read ${folder}/key: no such file or directory (ENOENT); create one with: `,
    );
  });

  it.runIf(nobody)("an encryption key file of another user", async () => {
    writeFileSync(join(folder, "key"), randomBytes(32).toString("base64url"), { mode: 0o600 });
    const said = await failure({ encryption: { keys: [{ kid: "k", file: "key" }] } }, { uid: nobody });
    expect(said).toContain(`cannot read ${folder}/key: permission denied (EACCES); make it a file that`);
  });

  it("missing and mismatched certificate files", async () => {
    const ca = await certificateAuthority(folder, ["sidecar.test"]);
    const tls = { certificate: ca.files.certificate, key: ca.files.key, client_ca: ca.files.ca };
    const said = (changes: object) => failure({ listen: { grpc_tls: { ...tls, ...changes } } });
    expect(await said({ key: "absent.pem" })).toContain(
      `listen.grpc_tls.key: cannot read ${folder}/absent.pem: no such file or directory (ENOENT); write`,
    );
    writeFileSync(join(folder, "text.pem"), "not a certificate");
    expect(await said({ certificate: "text.pem" })).toContain(
      `listen.grpc_tls: cannot use ${folder}/text.pem, `,
    );
  });

  it("a folder for Envoy's files that cannot be created", async () => {
    writeFileSync(join(folder, "file"), "");
    expect(await failure({}, { args: ["--xds-dir", join(folder, "file/xds")] })).toContain(
      `--xds-dir: cannot write to ${folder}/file/xds: not a directory (ENOTDIR); name a folder that`,
    );
  });

  it.each(["grpc", "admin"])("a port that listen.%s shares with another process", async (name) => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const address = `127.0.0.1:${Object(other.address()).port}`;
    try {
      expect(await failure({ listen: { [name]: address } })).toContain(
        `listen.${name}: cannot listen on ${address}: address already in use (EADDRINUSE); stop the process that uses it, or set listen.${name} (--listen-${name}) to another address`,
      );
    } finally {
      other.close();
    }
  });

  it.each(["grpc", "http"])("a Unix socket of listen.%s in a folder that does not exist", async (name) => {
    const said = await failure({ listen: { [name]: `unix:${folder}/absent/socket` } });
    expect(said).toContain(`listen.${name}: cannot listen on unix:${folder}/absent/socket: `);
    expect(said).toContain(`; ${folder}/absent must be a folder that this process's user`);
  });

  it("an address of another machine", async () => {
    const said = await failure({ listen: { http: "192.0.2.1:8080" } });
    expect(said).toContain(
      "listen.http: cannot listen on 192.0.2.1:8080: address not available (EADDRNOTAVAIL)",
    );
  });

  it("several workers with the embedded database", async () => {
    expect(await failure({ workers: 2, listen: sockets(), database: { dir: "data" } })).toBe(
      "envoy-mcp-auth: workers (--workers): 2 processes cannot share the embedded database; set database.url (DATABASE_URL) to a Postgres server, or set workers to 1\n",
    );
  });

  it("workers that end before they serve", async () => {
    const crash = join(folder, "crash.mjs");
    writeFileSync(
      crash,
      `if (process.env.ENVOY_MCP_AUTH_WORKER === "1/2") process.kill(process.pid, "SIGKILL");`,
    );
    const env = { NODE_OPTIONS: `--import=${crash}` };
    expect(await failure({ workers: 2, listen: sockets() }, { env })).toBe(
      "envoy-mcp-auth: worker 1 ended 5 times before it was ready: ended by SIGKILL; its log lines may say why\n",
    );
  });

  it("a database server that is not there", async () => {
    const env = {
      DATABASE_URL: `postgres://u:secret-word@127.0.0.1:${await freePort()}/d`,
    };
    const said = await failure({}, { env });
    expect(said).toContain("connection refused (ECONNREFUSED); database.url (DATABASE_URL) must name");
    expect(said).not.toContain("secret-word");
  });
});

it("a missing routes file is named with the option and the variable that name it", () => {
  const absent = join(tmpdir(), "absent.yaml");
  const { stderr, status } = spawnSync(process.execPath, [programFile, "serve", "--config", absent], {
    encoding: "utf8",
  });
  expect(status).toBe(1);
  expect(stderr).toBe(
    `envoy-mcp-auth: ${absent}:1:1: error: the file cannot be read (ENOENT)\n    fix: name a file that this process can read with --config, or in ENVOY_MCP_AUTH_CONFIG\n`,
  );
});
