import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { envoyBinary } from "../../envoy/envoy-binary.ts";
import { type CertificateAuthority, certificateAuthority } from "./certificate-authority.ts";
import { type Envoy, envoy } from "./envoy.ts";
import { type EverythingServer, everythingServer } from "./everything-server.ts";
import { freePort } from "./free-port.ts";
import { type LoopbackFetch, loopbackFetch } from "./loopback-fetch.ts";
import type { OidcServer } from "./oidc-server.ts";
import { type OpenServer, openServer } from "./open-server.ts";
import { openidProvider } from "./openid-provider.ts";
import { type Program, runProgram, type Sidecar, sidecar } from "./sidecar.ts";
import { type StackConfig, stackClientId, stackConfig } from "./stack-config.ts";
import {
  type UpstreamAuthorizationServer,
  upstreamAuthorizationServer,
} from "./upstream-authorization-server.ts";

/** One port of a stack (0 or absent: any free one), and the environment variable that overrides it. */
export interface StackPort {
  readonly port?: number;
  readonly setting?: string;
}

export interface StackOptions {
  /** Holds certificates, routes file, database and logs. */
  readonly folder: string;
  readonly ports?: Partial<
    Record<
      | "envoy"
      | "envoyAdmin"
      | "members"
      | "openid"
      | "upstream"
      | "everything"
      | "open"
      | "grpc"
      | "http"
      | "admin",
      StackPort
    >
  >;
  /** Public origins and URLs; default: `https://localhost:PORT`, `/everything`, `/open`. Other hosts are added to the certificate. */
  readonly urls?: { readonly issuer: string; readonly everything: string; readonly open: string };
  /** Host names for the certificate beyond those of `urls`. */
  readonly names?: readonly string[];
  /** Changes the routes file before it is written. */
  readonly config?: (config: StackConfig) => StackConfig;
  /** Behavior of the upstream's authorization server, times in seconds. */
  readonly upstream?: Omit<Parameters<typeof upstreamAuthorizationServer>[0], "clients" | "port">;
  /** Additional redirect URIs of the gateway's client at the upstream's authorization server. */
  readonly redirectUris?: readonly string[];
  /** Additional redirect URIs of the gateway's client at the company's provider. */
  readonly signInRedirectUris?: readonly string[];
  /** Environment of the sidecar: `DATABASE_URL` for a shared database. */
  readonly env?: Readonly<Record<string, string>>;
  /** Envoy watches files that the sidecar writes, instead of using a static bootstrap. */
  readonly xds?: boolean;
  /** Starts another gateway on `port` instead of an Envoy with the generated configuration. */
  readonly gateway?: (settings: GatewaySettings) => Promise<Envoy>;
  /** Starts the program instead of `node src/main.ts`: the installed package, an executable. */
  readonly program?: Program;
  /** Changes Envoy's bootstrap (YAML) before it starts. */
  readonly bootstrap?: (bootstrap: string) => string;
  readonly envoyLogLevel?: "warning" | "info" | "debug" | "trace";
  readonly progress?: (line: string) => void;
  /** Runs once the ports are known to be free, before anything is written. */
  readonly prepare?: () => Promise<unknown>;
}

/** What a gateway other than the generated Envoy needs to serve a stack's routes. Ports are on 127.0.0.1. */
export interface GatewaySettings {
  readonly folder: string;
  /** Serves https here. */
  readonly port: number;
  readonly adminPort: number;
  readonly ca: CertificateAuthority;
  readonly configFile: string;
  readonly config: StackConfig;
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly envoySecret: string;
}

/** A running stack: Envoy, the sidecar, the company's provider, two MCP servers and their authorization server. */
export interface Stack {
  readonly urls: { readonly issuer: string; readonly everything: string; readonly open: string };
  readonly envoyPort: number;
  readonly adminUrl: string;
  readonly ca: CertificateAuthority;
  readonly configFile: string;
  readonly openid: OidcServer;
  readonly upstream: UpstreamAuthorizationServer;
  readonly everything: EverythingServer;
  readonly open: OpenServer;
  readonly envoy: Envoy;
  /** The current sidecar; `restartSidecar` replaces it. */
  sidecar(): Sidecar;
  restartSidecar(): Promise<void>;
  /** Reaches the public URLs without DNS and trusts the CA. */
  readonly fetch: typeof globalThis.fetch;
  /** For Chromium: addresses of the public hosts. */
  readonly resolve: Readonly<Record<string, string>>;
  /** Settles if a part ends unexpectedly, with its name. */
  readonly crashed: Promise<string>;
  close(): Promise<void>;
}

/**
 * Starts all parts on loopback. If one fails, those already started are stopped.
 * @throws Error that names a port in use and the variable that overrides it, or the part that failed with its log.
 */
export async function startStack(options: StackOptions): Promise<Stack> {
  const closers: (() => Promise<unknown>)[] = [];
  const closeAll = async () => {
    for (const close of closers.splice(0).reverse()) await close();
  };
  try {
    return await start(options, closers, closeAll);
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function start(
  options: StackOptions,
  closers: (() => Promise<unknown>)[],
  closeAll: () => Promise<void>,
): Promise<Stack> {
  const { folder, ports = {}, progress = () => {} } = options;
  function keep<T extends { close(): Promise<unknown> }>(part: T): T {
    closers.push(() => part.close());
    return part;
  }
  // First, because it may have to be installed.
  await envoyBinary();
  const pick = (name: keyof typeof ports) => freePort(ports[name]?.port, ports[name]?.setting);
  const own = {
    envoy: await pick("envoy"),
    envoyAdmin: await pick("envoyAdmin"),
    members: await pick("members"),
    grpc: await pick("grpc"),
    http: await pick("http"),
    admin: await pick("admin"),
  };
  const issuer = `https://localhost:${own.envoy}`;
  const urls = options.urls ?? { issuer, everything: `${issuer}/everything`, open: `${issuer}/open` };
  const names = [...new Set(Object.values(urls).map((url) => new URL(url).hostname))];
  const origin = new URL(urls.everything).origin;

  progress(
    "certificates, the company's OpenID provider, the upstream's authorization server, two MCP servers",
  );
  await options.prepare?.();
  await mkdir(folder, { recursive: true });
  const ca = await certificateAuthority(folder, [...names, ...(options.names ?? [])]);
  const clientSecrets = { openid: secret(), upstream: secret() };
  const openid = keep(
    await openidProvider({
      port: ports.openid?.port,
      portSetting: ports.openid?.setting,
      clients: [
        {
          client_id: stackClientId,
          client_secret: clientSecrets.openid,
          redirect_uris: [`${urls.issuer}/.pomerium/sign_in/callback`, ...(options.signInRedirectUris ?? [])],
          post_logout_redirect_uris: [`${urls.issuer}/`],
        },
      ],
    }),
  );
  const upstream = keep(
    await upstreamAuthorizationServer({
      ...options.upstream,
      port: ports.upstream?.port,
      portSetting: ports.upstream?.setting,
      clients: [
        {
          client_id: stackClientId,
          client_name: "Company gateway",
          client_secret: clientSecrets.upstream,
          redirect_uris: [`${origin}/.pomerium/mcp/client/oauth/callback`, ...(options.redirectUris ?? [])],
        },
      ],
    }),
  );
  const everything = keep(
    await everythingServer({
      authorizationServer: upstream,
      port: ports.everything?.port,
      portSetting: ports.everything?.setting,
    }),
  );
  const open = keep(await openServer({ port: ports.open?.port, portSetting: ports.open?.setting }));

  const envoySecret = secret();
  const defaults = stackConfig({
    issuer: urls.issuer,
    everything: { from: urls.everything, to: everything.url },
    open: { from: urls.open, to: open.url },
    openidIssuer: openid.issuer,
    upstreamIssuer: upstream.issuer,
    clientSecrets,
    listen: { grpc: loopback(own.grpc), http: loopback(own.http), admin: loopback(own.admin) },
    envoySecret,
    envoy: { listen: loopback(own.envoy), admin: loopback(own.envoyAdmin) },
    // Another gateway has no listener for the sidecar.
    aggregation: options.gateway
      ? { through: `https://${loopback(own.envoy)}`, ca: ca.files.ca }
      : { listen: loopback(own.members) },
    tls: ca.files,
  });
  const configFile = join(folder, "routes.yaml");
  const config = options.config?.(defaults) ?? defaults;
  await writeFile(configFile, stringify(config), { mode: 0o600 });
  const keyFile = join(folder, "encryption-key");
  // A reused folder keeps the key that its database was written with.
  if (!existsSync(keyFile)) await writeFile(keyFile, `${secret()}\n`, { mode: 0o600 });

  progress("the sidecar");
  const xdsDir = options.xds ? join(folder, "xds") : undefined;
  const { program, env } = options;
  const sidecarOptions = { configFile, logFile: join(folder, "sidecar.log"), env, xdsDir, program };
  let current = await sidecar(sidecarOptions);
  closers.push(() => current.close());

  progress(options.gateway ? "the gateway" : "Envoy");
  /** An Envoy with the configuration that the command line, or the running sidecar, generates. */
  async function generatedEnvoy(): Promise<Envoy> {
    const bootstrap = xdsDir
      ? await readFile(join(xdsDir, "bootstrap.yaml"), "utf8")
      : await runProgram(program, ["envoy-config", "--config", configFile], { ...process.env, ...env });
    return envoy({
      bootstrap: options.bootstrap?.(bootstrap) ?? bootstrap,
      folder,
      adminPort: own.envoyAdmin,
      logLevel: options.envoyLogLevel,
    });
  }
  const proxy = keep(
    await (options.gateway ?? generatedEnvoy)({
      folder,
      port: own.envoy,
      adminPort: own.envoyAdmin,
      ca,
      configFile,
      config,
      grpcPort: own.grpc,
      httpPort: own.http,
      envoySecret,
    }),
  );
  const loopbackHttp: LoopbackFetch = keep(loopbackFetch(ca.ca, own.envoy));

  const { promise: crashed, resolve: crash } = Promise.withResolvers<string>();
  let closing = false;
  const watch = (part: Sidecar) =>
    part.exited.then(() => {
      if (!closing && part === current) crash(`The sidecar exited; its log is ${part.logFile}`);
    });
  void watch(current);
  void proxy.exited.then(() => {
    if (!closing) crash(`Envoy exited; its log is ${proxy.logFile}`);
  });

  return {
    urls,
    envoyPort: own.envoy,
    adminUrl: `http://${loopback(own.admin)}`,
    ca,
    configFile,
    openid,
    upstream,
    everything,
    open,
    envoy: proxy,
    sidecar: () => current,
    async restartSidecar() {
      const old = current;
      closing = true;
      await old.close();
      current = await sidecar(sidecarOptions);
      closing = false;
      void watch(current);
    },
    fetch: loopbackHttp.fetch,
    resolve: Object.fromEntries(
      [...names, ...(options.names ?? [])]
        .filter((name) => name !== "localhost")
        .map((name) => [name, loopback(own.envoy)]),
    ),
    crashed,
    async close() {
      closing = true;
      await closeAll();
    },
  };
}

const loopback = (port: number) => `127.0.0.1:${port}`;
const secret = () => randomBytes(32).toString("base64url");
