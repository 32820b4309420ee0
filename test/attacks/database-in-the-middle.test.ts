import { execFileSync } from "node:child_process";
import { chmod, chown, copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type CertificateAuthority, certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { openStore } from "../../src/store/open-store.ts";
import { problemsOf } from "../config/problems-of.ts";
import { logger, makeKeys } from "../store/backends.ts";
import { type PostgresServer, startPostgres } from "../support/start-postgres.ts";

/*
 * An attacker is between the sidecar and Postgres, or responds in its place. Two real servers: one with TLS, one without. The
 * impostor has a certificate of another CA, or one of the right CA for another name.
 */
let folder: string;
let server: PostgresServer;
let plain: PostgresServer;
let ours: CertificateAuthority;
let foreignCa: CertificateAuthority;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "database-tls-"));
  await chmod(folder, 0o755);
  ours = await certificateAuthority(join(folder, "ours"));
  foreignCa = await certificateAuthority(join(folder, "foreignCa"));
  const own = join(folder, "server");
  await mkdir(own, { mode: 0o755 });
  const files = { certificate: join(own, "tls.pem"), key: join(own, "key.pem") };
  await copyFile(ours.files.certificate, files.certificate);
  await copyFile(ours.files.key, files.key);
  await chmod(files.certificate, 0o644);
  await chmod(files.key, 0o600);
  // Postgres only reads a key that its own user owns; as root it runs as `postgres`.
  if (process.getuid?.() === 0) {
    const id = (flag: string) => {
      try {
        return Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
      } catch {
        return 0;
      }
    };
    plain = await startPostgres();
    await chown(files.key, id("-u"), id("-g"));
  } else plain = await startPostgres();
  server = await startPostgres(files);
});
afterAll(async () => {
  await server?.close();
  await plain?.close();
  await rm(folder, { recursive: true, force: true });
});

async function open(url: string, more: { tls?: "verify-full" | "disable"; tlsCa?: string }): Promise<string> {
  const options = { url, dir: "/nonexistent", keys: await makeKeys("k1"), logger, ...more };
  try {
    const store = await openStore(options);
    await store.ping();
    await store.close();
    return "open";
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  }
}
const withHost = (host: string, query = "") => {
  const url = new URL(server.url);
  url.hostname = host;
  return `${url}${query}`;
};

describe("an impostor of the database", () => {
  test("the right certificate is accepted for its name, also by the listener's connection", async () => {
    expect(await open(withHost("localhost"), { tls: "verify-full", tlsCa: ours.files.ca })).toBe("open");
    const query = `?sslmode=verify-full&sslrootcert=${ours.files.ca}`;
    expect(await open(withHost("localhost", query), {})).toBe("open");
  });

  test("a certificate of another CA is rejected", async () => {
    const tls = "verify-full";
    expect(await open(withHost("localhost"), { tls, tlsCa: foreignCa.files.ca })).toBe(
      "database_tls_invalid",
    );
    expect(await open(withHost("localhost"), { tls })).toBe("database_tls_invalid");
  });

  test("a certificate for another name is rejected", async () => {
    // Another spelling of 127.0.0.1 reaches the server, but the certificate does not contain it.
    expect(await open(withHost("127.1"), { tls: "verify-full", tlsCa: ours.files.ca })).toBe(
      "database_tls_invalid",
    );
  });

  test("a server without TLS is rejected", async () => {
    expect(await open(plain.url, { tls: "verify-full", tlsCa: ours.files.ca })).toBe("database_tls_invalid");
  });

  test("database.tls takes precedence over the URL", async () => {
    const lax = withHost("localhost", "?sslmode=no-verify");
    expect(await open(lax, { tls: "verify-full", tlsCa: foreignCa.files.ca })).toBe("database_tls_invalid");
    expect(await open(`${plain.url}?sslmode=disable`, { tls: "verify-full" })).toBe("database_tls_invalid");
  });
});

describe("check-config", () => {
  const file = (database: string) => `issuer: https://auth.test
sign_in: {providers: [{issuer: https://id.test, client_id: c}]}
database: ${database}
routes: [{from: https://a.test, to: https://b.test/mcp, mcp: {server: {}}, policy: [{allow: {and: [{accept: true}]}}]}]
`;
  const warnings = (database: string) => problemsOf(file(database)).filter((one) => one.includes("database"));

  test.each([
    ["{url: 'postgres://u@db.internal/mcp'}", "not encrypted"],
    ["{url: 'postgres://u@db.internal/mcp?sslmode=disable'}", "not encrypted"],
    ["{url: 'postgres://u@db.internal/mcp?sslmode=verify-full', tls: disable}", "not encrypted"],
    ["{url: 'postgres://u@db.internal/mcp?sslmode=no-verify'}", "is not verified"],
    ["{url: 'postgres://u@db.internal/mcp?sslmode=require&uselibpqcompat=true'}", "is not verified"],
    ["{url: 'postgres://u@localhost/mcp', listen_url: 'postgres://u@db.internal/mcp'}", "not encrypted"],
    ["{tls_ca: /ca.pem}", "it has no effect"],
  ])("%s: %s", (database, message) => {
    expect(warnings(database).join("\n")).toContain(message);
  });

  test.each([
    "{url: 'postgres://u@localhost/mcp'}",
    "{url: 'postgres://u@%2Frun%2Fpostgresql/mcp'}",
    "{url: 'postgres://u@db.internal/mcp', tls: verify-full}",
    "{url: 'postgres://u@db.internal/mcp?sslmode=verify-full'}",
    "{url: 'postgres://u@db.internal/mcp?sslmode=require'}",
  ])("no warning for %s", (database) => {
    expect(warnings(database)).toEqual([]);
  });
});
