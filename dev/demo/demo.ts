import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Stack, type StackOptions, startStack } from "./stack.ts";

const folder = process.env.DEMO_FOLDER ?? join(import.meta.dirname, "../../.demo/run");
const inspector = "npx @modelcontextprotocol/inspector";

/** Ports of the demo, so that a second start finds the same URLs; each can be moved. */
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
} satisfies StackOptions["ports"];

function port(setting: string, usual: number) {
  return { setting, port: Number(process.env[setting] ?? usual) };
}

function describe(stack: Stack): string {
  const { urls, ca, openid, upstream } = stack;
  const people = (accounts: Stack["openid"]["accounts"]) =>
    accounts.map(({ login, password }) => `${login} / ${password}`).join(", ");
  return `
  Everything is running; Ctrl-C stops it all.

  MCP servers behind Envoy
    ${urls.everything}   needs a token of its own authorization server
    ${urls.open}         needs none; yours stops at the gateway
  People
    company sign-in (${openid.issuer})      ${people(openid.accounts)}
    Everything Inc. (${upstream.issuer})      ${people(upstream.accounts)}

  Try it
    MCP Inspector   NODE_EXTRA_CA_CERTS=${ca.files.ca} ${inspector}
                    then: Transport Type "Streamable HTTP", URL ${urls.everything},
                    Connection Type "Via Proxy", Connect
    Python, Go, Rust, C#
                    SSL_CERT_FILE=${ca.files.ca} REQUESTS_CA_BUNDLE=${ca.files.ca} CLIENT
                    (the second is for Python's requests; instead of the system's authorities, not beside them)
    any client      its URL is ${urls.everything}; it has to trust ${ca.files.ca}
    curl            curl --cacert ${ca.files.ca} -i ${urls.everything}
  Your browser does not know the demo's certificate: accept it once at ${urls.issuer}.

  Config and logs are in ${folder}; metrics at ${stack.adminUrl}/metrics.
`;
}

async function main(): Promise<number> {
  const stop = Promise.withResolvers<string | undefined>();
  let starting = true;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      // Before everything runs there is nothing to close in order: the children end with us.
      if (starting) process.exit(130);
      stop.resolve(undefined);
    });
  }
  const begin = Date.now();
  const stack = await startStack({
    folder,
    ports,
    // Only now: a demo that already runs there keeps its ports, and so its data.
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
