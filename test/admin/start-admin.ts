import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { serve } from "../../src/serve.ts";
import { createTestDatabase } from "../support/postgres.ts";

/** A complete response of the admin API. */
export interface AdminAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The body as JSON; null without one. */
  readonly body: Record<string, unknown>;
}
export interface AdminReplica {
  /** `http://127.0.0.1:port` of the private port. */
  readonly url: string;
  call(
    method: string,
    path: string,
    body?: unknown,
    options?: { token?: string; headers?: Record<string, string> },
  ): Promise<AdminAnswer>;
}

/** Complete sidecars on one real Postgres, and the tokens of their admin API. */
export async function startAdmin(options: { replicas?: number; settings?: object } = {}) {
  const folder = await mkdtemp(join(tmpdir(), "admin-"));
  const database = await createTestDatabase();
  const [admin, named, viewer] = [randomToken(), randomToken(), randomToken()];
  const tokens = { admin, named, viewer };
  const file = join(folder, "routes.yaml");
  const anyPort = "127.0.0.1:0";
  const config = {
    issuer: "https://auth.test",
    listen: { grpc: anyPort, http: anyPort, admin: anyPort, grpc_authentication: "none" },
    sign_in: { providers: [{ issuer: "https://id.test", client_id: "c" }] },
    upstream_oauth: { allowed_private_hosts: ["127.0.0.1"], timeout: "3s" },
    admin_api: { admin_tokens: [admin, { name: "pipeline", token: named }], viewer_tokens: [viewer] },
    policy: { allow: { or: [{ accept: true }] } },
    routes: [{ id: "in-file", from: "https://file.test", to: "http://127.0.0.1:1/mcp", mcp: { server: {} } }],
    log: { level: "error" },
    ...options.settings,
  };
  await writeFile(file, stringify(config), { mode: 0o600 });
  const env = { DATABASE_URL: database.url, ENCRYPTION_KEY: randomBytes(32).toString("base64url") };
  const replicas: (AdminReplica & { close(): Promise<void> })[] = [];
  for (let index = 0; index < (options.replicas ?? 1); index += 1) {
    const sidecar = await serve({ file, env });
    const url = `http://${sidecar.admin}`;
    replicas.push({
      url,
      close: sidecar.close,
      async call(method, path, body, { token = tokens.admin, headers = {} } = {}) {
        const response = await fetch(`${url}/admin/v1${path}`, {
          method,
          headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
          body: body === undefined ? null : JSON.stringify(body),
        });
        const text = await response.text();
        const isJson = /^application\/json(;|$)/.test(response.headers.get("content-type") ?? "");
        return {
          status: response.status,
          headers: response.headers,
          text,
          body: isJson ? JSON.parse(text) : {},
        };
      },
    });
  }
  const [first] = replicas;
  if (first === undefined) throw new Error("no replica");
  return {
    tokens,
    file,
    env,
    config,
    first,
    replicas,
    async close() {
      await Promise.all(replicas.map((replica) => replica.close()));
      await database.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function randomToken(): string {
  return randomBytes(32).toString("hex");
}
