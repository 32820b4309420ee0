import { Command, Option } from "commander";
import { productVersion } from "../util/product-version.ts";
import { addOperatorCommands } from "./operator-commands.ts";

const out = (text: string) => void process.stdout.write(text);
const err = (text: string) => void process.stderr.write(text);
const file = () =>
  new Option("-c, --config <file>", "the routes file")
    .env("ENVOY_MCP_AUTH_CONFIG")
    .default("envoy-mcp-auth.yaml");

interface ServeOptions {
  readonly config: string;
  readonly xdsDir?: string;
  readonly listenGrpc?: string;
  readonly listenHttp?: string;
  readonly listenAdmin?: string;
}

/** The command line; `docs/cli.md` is made from it. Each command loads its own code only: most need a small part of it. */
export const program = new Command("envoy-mcp-auth")
  .description("Envoy external-authorization and token-injection sidecar for MCP servers")
  .version(productVersion(), "-V, --version", "print the version");

program
  .command("serve")
  .description("answer Envoy, MCP clients and browsers until SIGTERM")
  .addOption(file())
  .option(
    "--xds-dir <dir>",
    "keep bootstrap.yaml, lds.yaml, rds.yaml and cds.yaml for a running Envoy up to date here",
  )
  .option(
    "--listen-grpc <address>",
    "in place of the file's listen.grpc, for several processes on one machine",
  )
  .option("--listen-http <address>", "likewise listen.http")
  .option("--listen-admin <address>", "likewise listen.admin")
  .action(async (options: ServeOptions) => {
    const { config: file, xdsDir, listenGrpc: grpc, listenHttp: http, listenAdmin: admin } = options;
    const { serve } = await import("../serve.ts");
    const sidecar = await serve({ file, env: process.env, xdsDir, listen: { grpc, http, admin } });
    let stopping = false;
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        // A second signal means now.
        if (stopping) process.exit(1);
        stopping = true;
        sidecar.close().then(
          () => process.exit(0),
          (error: Error) => {
            err(`could not stop cleanly: ${error.message}\n`);
            process.exit(1);
          },
        );
      });
    }
  });

program
  .command("migrate")
  .description("bring the database to the newest version; safe while older replicas run")
  .addOption(file())
  .action(async (options: { config: string }) => {
    const { loadConfig } = await import("../config/load-config.ts");
    const loaded = loadConfig(options.config, process.env);
    if (!loaded.ok) {
      const { formatProblem } = await import("../config/problems.ts");
      for (const problem of loaded.problems) err(`${formatProblem(problem)}\n`);
      process.exitCode = 1;
      return;
    }
    const { migrate } = await import("../store/migrate.ts");
    const { url, dir, ...tls } = loaded.config.database;
    const done = await migrate(url === undefined ? { dir } : { url, tls });
    out(done.length === 0 ? "nothing to do\n" : `${done.join("\n")}\n`);
  });

program
  .command("check-config")
  .description("print every problem of the routes file at once; exit 1 when there is an error")
  .addOption(file())
  .action(async (options: { config: string }) => {
    const { checkConfig } = await import("./check-config.ts");
    const { policyWarnings } = await import("../policy/warnings.ts");
    process.exitCode = checkConfig({
      file: options.config,
      env: process.env,
      out,
      err,
      moreWarnings: policyWarnings,
    });
  });

program
  .command("envoy-config")
  .description("print an Envoy bootstrap for the routes file, or write the files a running Envoy watches")
  .addOption(file())
  .addOption(
    new Option(
      "-f, --format <format>",
      "how to print it; context: only what each route's checks say, for Envoy Gateway and Istio",
    )
      .choices(["yaml", "json", "context"])
      .default("yaml"),
  )
  .option("--xds-dir <dir>", "write bootstrap.yaml, lds.yaml, rds.yaml and cds.yaml into this folder instead")
  .action(async (options: { config: string; format: "yaml" | "json" | "context"; xdsDir?: string }) => {
    const { envoyConfig } = await import("./envoy-config.ts");
    process.exitCode = envoyConfig({ file: options.config, env: process.env, out, err, ...options });
  });

program
  .command("doctor")
  .description("run discovery against a route's upstream, print each step, and say what to do")
  .argument("<route>", "id or URL of the route")
  .addOption(file())
  .action(async (route: string, options: { config: string }) => {
    const { runDoctor } = await import("./doctor.ts");
    process.exitCode = await runDoctor({ file: options.config, route, env: process.env, out, err });
  });

addOperatorCommands(program, file, (options) => ({ file: options.config, env: process.env, out, err }));
