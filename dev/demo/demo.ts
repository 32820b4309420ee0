import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Stack, type StackOptions, startStack } from "./stack.ts";
import { everythingAtOnce } from "./stack-config.ts";

const folder = process.env.DEMO_FOLDER ?? join(import.meta.dirname, "../../.demo/run");
const inspector = "npx @modelcontextprotocol/inspector";

/** Fixed ports, so that URLs stay the same after a restart; each can be overridden. */
const ports = {
  envoy: port("DEMO_PORT", 8443),
  openid: port("DEMO_OPENID_PORT", 8444),
  upstream: port("DEMO_UPSTREAM_PORT", 8445),
  everything: port("DEMO_EVERYTHING_PORT", 8446),
  open: port("DEMO_OPEN_PORT", 8447),
  grpc: port("DEMO_GRPC_PORT", 8448),
  http: port("DEMO_HTTP_PORT", 8449),
  admin: port("DEMO_ADMIN_PORT", 8450),
  envoyAdmin: port("DEMO_ENVOY_ADMIN_PORT", 8451),
  members: port("DEMO_MEMBERS_PORT", 8452),
} satisfies StackOptions["ports"];

function port(setting: string, usual: number) {
  return { setting, port: Number(process.env[setting] ?? usual) };
}

function describe(stack: Stack): string {
  const { urls, ca, openid, upstream } = stack;
  const people = (accounts: Stack["openid"]["accounts"]) =>
    accounts.map(({ login, password }) => `${login} / ${password}`).join(", ");
  return `
  Everything is running. Press Ctrl-C to stop.

  MCP servers behind Envoy
    ${urls.everything}   requires a token of its own authorization server
    ${urls.open}         requires no token; yours stops at the gateway
    ${urls.issuer}/all          everything at once: the tools of both under one URL
  People
    company sign-in (${openid.issuer})      ${people(openid.accounts)}
    Everything Inc. (${upstream.issuer})      ${people(upstream.accounts)}

  Try it
    MCP Inspector   NODE_EXTRA_CA_CERTS=${ca.files.ca} ${inspector}
                    then: Transport Type "Streamable HTTP", URL ${urls.everything},
                    Connection Type "Via Proxy", Connect
    Python, Go, Rust, C#
                    SSL_CERT_FILE=${ca.files.ca} REQUESTS_CA_BUNDLE=${ca.files.ca} CLIENT
                    (REQUESTS_CA_BUNDLE is for Python's requests; both replace the system's CAs)
    any client      URL ${urls.everything}; it must trust ${ca.files.ca}
    curl            curl --cacert ${ca.files.ca} -i ${urls.everything}
  Your browser does not trust the demo's certificate: accept it once at ${urls.issuer}.

  Config and logs are in ${folder}; metrics at ${stack.adminUrl}/metrics.
`;
}

async function main(): Promise<number> {
  const stop = Promise.withResolvers<string | undefined>();
  let starting = true;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      // During startup nothing needs an orderly shutdown: the children end with this process.
      if (starting) process.exit(130);
      stop.resolve(undefined);
    });
  }
  const begin = Date.now();
  const stack = await startStack({
    folder,
    ports,
    config: everythingAtOnce,
    // Not earlier: if the ports are in use, another demo is using this folder.
    prepare: () => rm(folder, { recursive: true, force: true }),
    progress: (line) => process.stderr.write(`==> starting ${line}\n`),
  });
  starting = false;
  process.stderr.write(`==> ready after ${((Date.now() - begin) / 1000).toFixed(1)} s\n`);
  process.stdout.write(describe(stack));
  void stack.crashed.then(stop.resolve);
  const crash = await stop.promise;
  process.stderr.write(`\n==> ${crash ?? "stopping"}\n`);
  await stack.close();
  return crash ? 1 : 0;
}

try {
  process.exit(await main());
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
