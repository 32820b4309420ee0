#!/usr/bin/env node
import { Command, Option } from "commander";
import { checkConfig } from "./config/check-config.ts";
import { envoyConfig } from "./config/envoy-config.ts";

const out = (text: string) => void process.stdout.write(text);
const err = (text: string) => void process.stderr.write(text);
const file = () =>
  new Option("-c, --config <file>", "the routes file")
    .env("ENVOY_MCP_AUTH_CONFIG")
    .default("envoy-mcp-auth.yaml");

const program = new Command("envoy-mcp-auth").description(
  "Envoy external-authorization and token-injection sidecar for MCP servers",
);

program
  .command("check-config")
  .description("print every problem of the routes file at once; exit 1 when there is an error")
  .addOption(file())
  .action((options: { config: string }) => {
    process.exitCode = checkConfig({ file: options.config, env: process.env, out, err });
  });

program
  .command("envoy-config")
  .description("print an Envoy bootstrap for the routes file, or write the files a running Envoy watches")
  .addOption(file())
  .addOption(new Option("-f, --format <format>", "how to print it").choices(["yaml", "json"]).default("yaml"))
  .option("--xds-dir <dir>", "write bootstrap.yaml, lds.yaml and cds.yaml into this folder instead")
  .action((options: { config: string; format: "yaml" | "json"; xdsDir?: string }) => {
    process.exitCode = envoyConfig({ file: options.config, env: process.env, out, err, ...options });
  });

await program.parseAsync();
