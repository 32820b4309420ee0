import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { freePort } from "../../../dev/demo/free-port.ts";
import { startE2e } from "../../support/e2e.ts";
import { person } from "./person.ts";
import { suite } from "./scenario.ts";

/*
 * `node test/system/conformance/authorization.ts`: the suite's scenarios for authorization servers against ours, through Envoy:
 * metadata and the code flow, for a preregistered client and a dynamically registered one, under every revision. The suite prints
 * the URL for a person; a headless browser opens it.
 */
const folder = await mkdtemp(join(tmpdir(), "conformance-authorization-"));
const port = await freePort();
const redirectUri = `http://127.0.0.1:${port}/callback`;
const stack = await startE2e({
  // The suite resolves names by DNS, so this uses localhost.
  urls: undefined,
  folder: join(folder, "stack"),
  config: (config) => ({
    ...config,
    authorization_server: { clients: [{ client_id: "known-in-advance", redirect_uris: [redirectUri] }] },
  }),
});
const human = person(stack.fetch, redirectUri, stack.openid.issuer);
const checks = z.array(z.object({ id: z.string(), status: z.string(), errorMessage: z.string().optional() }));

let passed = 0;
let failed = 0;
for (const revision of ["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]) {
  for (const [kind, clientId] of [
    ["known in advance", "known-in-advance"],
    ["registered itself", await register()],
  ] as const) {
    const output = join(folder, `${revision}-${kind.replaceAll(" ", "-")}`);
    const log = await run(clientId, revision, output);
    const files = globSync(join(output, "**", "checks.json"));
    const found = (
      await Promise.all(files.map(async (file) => checks.parse(JSON.parse(await readFile(file, "utf8")))))
    ).flat();
    if (!found.some((check) => check.id === "authorization-code-grant")) {
      failed += 1;
      console.log(`FAIL  code flow not checked, ${revision}\n${log.slice(-2000)}`);
    }
    for (const check of found) {
      const ok = check.status === "SUCCESS" || check.status === "INFO";
      if (ok) passed += 1;
      else failed += 1;
      const why = ok ? "" : `\n        ${check.status}: ${check.errorMessage ?? ""}`;
      console.log(`${ok ? "pass" : "FAIL"}  ${check.id.padEnd(45)} ${revision}  client ${kind}${why}`);
    }
  }
}
await stack.close();
await rm(folder, { recursive: true, force: true });
console.log(`\n${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;

/** Registers a public client (RFC 7591), like MCP clients. */
async function register(): Promise<string> {
  const response = await stack.fetch(`${stack.urls.issuer}/oauth/register`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      client_name: "Conformance",
      redirect_uris: [redirectUri],
      token_endpoint_auth_method: "none",
    }),
  });
  return z.object({ client_id: z.string() }).parse(await response.json()).client_id;
}

/** Runs the suite, and completes the flow as soon as the suite prints a URL. Resolves with its output. */
function run(clientId: string, revision: string, output: string): Promise<string> {
  const child = spawn(
    process.execPath,
    [
      join(suite, "dist", "index.js"),
      "authorization",
      ...["--url", stack.urls.issuer],
      ...["--client-id", clientId],
      ...["--resource", stack.urls.open],
      ...["--port", String(port)],
      ...["--spec-version", revision],
      ...["--output-dir", output],
    ],
    { env: { ...process.env, NODE_EXTRA_CA_CERTS: stack.ca.files.ca }, stdio: ["ignore", "pipe", "pipe"] },
  );
  let log = "";
  let left = false;
  const read = (chunk: Buffer) => {
    log += chunk;
    const [, url] = /^(https:\S+response_type=code\S+)\n/m.exec(log) ?? [];
    if (!url || left) return;
    left = true;
    human.authorize(new URL(url)).then(
      // A new connection: each run has a different server on the port.
      (params) => get(`${redirectUri}?${params}`, { agent: false }, (answer) => answer.resume()),
      (error: Error) => {
        log += `\n${error.message}`;
        child.kill();
      },
    );
  };
  child.stdout.on("data", read);
  child.stderr.on("data", read);
  return new Promise((resolve) => child.once("close", () => resolve(log)));
}
