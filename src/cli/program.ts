import { Command, InvalidArgumentError, Option } from "commander";
import { productVersion } from "../util/package.ts";
import type { ImportArguments } from "./import.ts";
import { addOperatorCommands } from "./operator-commands.ts";
import type { ServeArguments } from "./serve.ts";
import { standardOutput } from "./standard-output.ts";

const { out, drained } = standardOutput(process.stdout);
const err = (text: string) => void process.stderr.write(text);
const file = () =>
  new Option("-c, --config <file>", "the routes file")
    .env("ENVOY_MCP_AUTH_CONFIG")
    .default("envoy-mcp-auth.yaml");

const workers = () =>
  new Option(
    "--workers <number>",
    "override workers of the routes file: processes that serve, or auto: one for each core (docs/deployment.md#several-processes)",
  ).argParser(parseWorkers);

function parseWorkers(text: string): number | "auto" {
  if (text === "auto") return text;
  if (/^[1-9]\d?$/.test(text) && Number(text) <= 64) return Number(text);
  throw new InvalidArgumentError("Write auto, or a number from 1 to 64.");
}

const envoyConfigFormats = ["yaml", "json", "context", "xds-bootstrap", "xds-credential"] as const;

interface EnvoyConfigArguments {
  readonly config: string;
  readonly format: (typeof envoyConfigFormats)[number];
  readonly xdsDir?: string;
  readonly workers?: number | "auto";
}

/** The command line; `docs/cli.md` is generated from it. Each command loads only the code it needs. */
export const program = new Command("envoy-mcp-auth")
  .description("Envoy external-authorization and token-injection sidecar for MCP servers")
  .version(productVersion(), "-V, --version", "print the version");

program
  .command("serve")
  .description("run the gateway until SIGTERM")
  .addOption(file())
  .option(
    "--xds-dir <dir>",
    "write bootstrap.yaml, lds.yaml, rds.yaml, cds.yaml and sds.yaml into this directory and keep them up to date for a running Envoy",
  )
  .option(
    "--listen-grpc <address>",
    "override listen.grpc of the routes file, to run several processes on one machine; Envoy's configuration keeps the addresses of the file",
  )
  .option("--listen-http <address>", "override listen.http")
  .option("--listen-admin <address>", "override listen.admin")
  .option("--listen-xds <address>", "override listen.xds.address")
  .addOption(workers())
  .action(async (options: ServeArguments) => {
    const { runServe } = await import("./serve.ts");
    await runServe(options, { env: process.env, err });
  });

program
  .command("migrate")
  .description(
    "migrate the database to the newest version and build its indexes; safe while older replicas run, and to interrupt",
  )
  .option("--skip-indexes", "leave the indexes to serve, which builds them in the background")
  .addOption(file())
  .action(async (options: { config: string; skipIndexes?: boolean }) => {
    const { runMigrate } = await import("./migrate.ts");
    process.exitCode = await runMigrate({ file: options.config, env: process.env, out, err, ...options });
  });

program
  .command("check-config")
  .description("print all problems of the routes file; exit with 1 if there is an error")
  .addOption(file())
  .action(async (options: { config: string }) => {
    const { checkConfig } = await import("./check-config.ts");
    const { policyWarnings, responsePathWarnings } = await import("../policy/warnings.ts");
    process.exitCode = checkConfig({
      file: options.config,
      env: process.env,
      out,
      err,
      moreWarnings: (config) => [...policyWarnings(config), ...responsePathWarnings(config)],
    });
  });

program
  .command("envoy-config")
  .description("print an Envoy bootstrap for the routes file, or write the files a running Envoy watches")
  .addOption(file())
  .addOption(
    new Option(
      "-f, --format <format>",
      "output format; context: only the context_extensions of each route, for Envoy Gateway and Istio; xds-bootstrap: for Envoys that fetch listeners, routes and clusters from listen.xds; xds-credential: the file with which they authenticate",
    )
      .choices(envoyConfigFormats)
      .default("yaml"),
  )
  .option(
    "--xds-dir <dir>",
    "write bootstrap.yaml, lds.yaml, rds.yaml, cds.yaml and sds.yaml into this directory instead",
  )
  .addOption(workers())
  .action(async (options: EnvoyConfigArguments) => {
    const { envoyConfig } = await import("./envoy-config.ts");
    process.exitCode = envoyConfig({ file: options.config, env: process.env, out, err, ...options });
  });

program
  .command("doctor")
  .description("run discovery against a route's upstream, print each step and what to do")
  .argument("<route>", "id or URL of the route, of the routes file or the database")
  .option("--json", "print one JSON document instead of text")
  .addOption(file())
  .action(async (route: string, options: { config: string; json?: boolean }) => {
    const { json } = options;
    const { runDoctor } = await import("./doctor.ts");
    process.exitCode = await runDoctor({ file: options.config, route, json, env: process.env, out, err });
  });

program
  .command("import")
  .description(
    "make routes, and a bridge for stdio servers, from the configuration of a desktop client, a bridge or a FastMCP gateway (docs/stdio.md)",
  )
  .argument("<file>", "JSON file with mcpServers or servers")
  .requiredOption(
    "--from <url>",
    "where the routes are served: https://mcp.example.com for a path per server, https://{name}.mcp.example.com for a host per server",
  )
  .requiredOption("--out <dir>", "folder for the written files")
  .option("--force", "replace files of an earlier import; secrets.env keeps its values")
  .option("--aggregate <name>", "name of the route that serves all of them as one MCP server", "all")
  .option("--no-aggregate", "do not write that route")
  .option("--bridge <address>", "loopback address that the bridge listens on", "127.0.0.1:8100")
  .option("--sign-in <url>", "issuer of your OpenID provider; writes a complete routes file")
  .option("--client-id <id>", "client id of the gateway there", "mcp-gateway")
  .option("--domain <domain>", "with --sign-in: e-mail domain of the users who may use the servers")
  .action(async (file: string, options: ImportArguments) => {
    const { runImport } = await import("./import.ts");
    process.exitCode = runImport(file, options, { env: process.env, out, err });
  });

addOperatorCommands(program, file, (options) => ({
  file: options.config,
  env: process.env,
  ...{ out, err, drained },
}));
