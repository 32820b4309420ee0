import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { certificateAuthority } from "../../../dev/demo/certificate-authority.ts";
import { envoy } from "../../../dev/demo/envoy.ts";
import { freePort } from "../../../dev/demo/free-port.ts";
import { loopbackFetch } from "../../../dev/demo/loopback-fetch.ts";
import { openidProvider } from "../../../dev/demo/openid-provider.ts";
import { sidecar } from "../../../dev/demo/sidecar.ts";
import { envoyConfig } from "../../../src/cli/envoy-config.ts";
import { companyTokenEndpoint } from "./company-token-endpoint.ts";
import { routeFor, type ScenarioServer } from "./route-for.ts";

const domain = "conformance.test";

/** A scenario's route, and how an MCP client reaches it. */
export interface Served {
  readonly url: string;
  /** PEM of the CA of Envoy's certificate. */
  readonly ca: string;
  /** Address for https to any host. */
  readonly port: number;
  readonly openidProvider: string;
}

/** A sidecar in a separate process behind Envoy, with one route at a time. */
export interface Gateway {
  /** Writes a route to the scenario's server into the routes file; resolves when both processes serve it. */
  serve(server: ScenarioServer): Promise<Served>;
  /** The sidecar's log so far. */
  log(): Promise<string>;
  close(): Promise<void>;
}

/** Starts an OpenID provider, the sidecar (embedded database in `folder`), and an Envoy that watches `folder/xds`. */
export async function gateway(folder: string): Promise<Gateway> {
  await mkdir(folder, { recursive: true });
  const [port, adminPort, grpc, http, admin] = await Promise.all(Array.from({ length: 5 }, () => freePort()));
  const authority = await certificateAuthority(join(folder, "tls"), [`*.${domain}`]);
  const issuer = `https://auth.${domain}`;
  const secret = randomBytes(24).toString("base64url");
  const company = await openidProvider({
    clients: [
      {
        client_id: "gateway",
        client_secret: secret,
        redirect_uris: [`${issuer}/.pomerium/sign_in/callback`],
      },
    ],
  });
  const tokenEndpoint = await companyTokenEndpoint();
  const file = join(folder, "routes.yaml");
  const logFile = join(folder, "sidecar.log");
  const xdsDir = join(folder, "xds");
  const places = {
    companyTokenUrl: tokenEndpoint.url,
    workloadIdentityFile: join(folder, "workload.jwt"),
  };
  let number = 0;

  const write = (routes: readonly unknown[], upstreamOAuth: Record<string, unknown> = {}) =>
    writeFile(
      file,
      // JSON is valid YAML.
      JSON.stringify(
        {
          issuer,
          listen: {
            grpc: `127.0.0.1:${grpc}`,
            http: `127.0.0.1:${http}`,
            admin: `127.0.0.1:${admin}`,
            envoy_secret: "what-envoy-proves-itself-with-here-1",
          },
          database: { dir: join(folder, "data") },
          encryption: { keys: [{ kid: "k1", env: "CONFORMANCE_KEY" }] },
          sign_in: {
            providers: [
              { id: "company", issuer: company.issuer, client_id: "gateway", client_secret: secret },
            ],
          },
          upstream_oauth: {
            allowed_private_hosts: ["localhost", "127.0.0.1", "::1"],
            ...upstreamOAuth,
          },
          log: { level: "debug" },
          envoy: {
            listen: `127.0.0.1:${port}`,
            admin: `127.0.0.1:${adminPort}`,
            tls: { certificate: authority.files.certificate, key: authority.files.key },
            upstream_ca: authority.files.ca,
          },
          routes,
        },
        undefined,
        2,
      ),
      { mode: 0o600 },
    );
  // The file requires a route before the first scenario has a server.
  await write([
    {
      from: `https://idle.${domain}`,
      to: company.issuer,
      mcp: { server: { upstream_auth: "none" } },
    },
  ]);
  const serving = await sidecar({
    configFile: file,
    logFile,
    env: { CONFORMANCE_KEY: randomBytes(32).toString("base64url") },
  });
  const log = () => readFile(logFile, "utf8").catch(() => "");

  /** Waits until `url` returns 200; uses a new connection each time, because Envoy serves existing ones with the old configuration. */
  async function until(url: string): Promise<void> {
    let last = "nothing";
    for (const deadline = Date.now() + 60_000; ; await delay(50)) {
      const { fetch, close } = loopbackFetch(authority.ca, port ?? 0);
      try {
        const response = await fetch(url);
        await response.body?.cancel();
        if (response.status === 200) return;
        last = String(response.status);
      } catch (error) {
        last = error instanceof Error ? error.message : String(error);
      } finally {
        await close();
      }
      if (Date.now() > deadline) {
        const tail = (await log()).slice(-3000);
        throw new Error(`${url} answered ${last}. The sidecar's log ends:\n${tail}`);
      }
    }
  }

  /** Like an operator's `envoy-config --xds-dir` after each change of the file. */
  function writeXds(): void {
    const problems: string[] = [];
    const err = (text: string) => void problems.push(text);
    const env = { CONFORMANCE_KEY: "not read here" };
    const code = envoyConfig({ file, env, format: "yaml", xdsDir, out: () => {}, err });
    if (code !== 0) throw new Error(problems.join(""));
  }
  writeXds();
  const proxy = await envoy({
    bootstrap: await readFile(join(xdsDir, "bootstrap.yaml"), "utf8"),
    folder,
    adminPort: adminPort ?? 0,
  });

  return {
    async serve(server) {
      number += 1;
      const id = `s${String(number).padStart(2, "0")}`;
      const host = `${id}.${domain}`;
      tokenEndpoint.translate(server.context);
      if (server.context.valid_jwt) await writeFile(places.workloadIdentityFile, server.context.valid_jwt);
      const isAboutDocuments = server.scenario === "auth/basic-cimd";
      await write(
        [routeFor(server, id, host, places)],
        // The client id that this scenario knows; the document is never fetched.
        isAboutDocuments
          ? { client_id_metadata_url: "https://conformance-test.local/client-metadata.json" }
          : {},
      );
      writeXds();
      await until(`https://${host}/.well-known/oauth-protected-resource/mcp`);
      return {
        url: `https://${host}/mcp`,
        ca: authority.ca,
        port: port ?? 0,
        openidProvider: company.issuer,
      };
    },
    log,
    async close() {
      await proxy.close();
      await serving.close();
      await Promise.all([company.close(), tokenEndpoint.close()]);
    },
  };
}
