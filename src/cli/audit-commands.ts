import { type Command, InvalidArgumentError, Option } from "commander";
import type { ListingOptions } from "./listing.ts";

interface ExportOptions {
  readonly config: string;
  readonly after?: number;
  readonly since?: Date;
  readonly until?: Date;
  readonly action?: string;
  readonly user?: string;
  readonly route?: string;
  readonly checkpoints: boolean;
  readonly follow: boolean;
  readonly output?: string;
  readonly format: "json" | "cloudevents";
}

/**
 * Adds `audit export`, `audit verify` and `audit keys`.
 * @param file creates the option `--config`
 */
export function addAuditCommands(
  program: Command,
  file: () => Option,
  commandOptions: (options: { config: string }) => ListingOptions,
): void {
  const audit = program.command("audit").description("export and verify the audit trail");
  // The default, because `audit` alone is its former name.
  audit
    .command("export", { isDefault: true })
    .description("print audit events as JSON lines, oldest first")
    .addOption(
      new Option("--after <id>", "only events after this id, where the last export ended").argParser(parseId),
    )
    .addOption(
      new Option("--since <time>", "only events at or after this time (RFC 3339)").argParser(parseTime),
    )
    .addOption(new Option("--until <time>", "only events before this time (RFC 3339)").argParser(parseTime))
    .option("--action <action>", "only events with this action, such as grant.revoked")
    .addOption(userOption())
    .option("--route <id>", "only for this route")
    .option(
      "--checkpoints",
      "events in the order of the signed chain, each batch followed by a line with its checkpoint, so that the lines verify without the database",
      false,
    )
    .option("--follow", "as with --checkpoints, and continue with new events until interrupted", false)
    .option(
      "--output <file>",
      "as with --checkpoints, appended to this file after the last complete batch in it",
    )
    .addOption(
      new Option("--format <format>", "what a line is: an event, or a CloudEvent with the event as data")
        .choices(["json", "cloudevents"])
        .default("json"),
    )
    .addOption(file())
    .action(async (options: ExportOptions, command: Command) => {
      const { after, since, until, action, user: userId, route: routeId, format } = options;
      const which = { after, since, until, action, userId, routeId, settled: until === undefined };
      const { checkpoints, follow, output } = options;
      if (checkpoints || follow || output !== undefined) {
        if ([after, since, until, action, userId, routeId].some((filter) => filter !== undefined))
          command.error("--checkpoints, --follow and --output export every event: leave out the filters");
        if (output !== undefined && format !== "json") command.error("--output needs --format json");
        const { runAuditChainExport } = await import("./audit-chain-export.ts");
        process.exitCode = await runAuditChainExport({ ...commandOptions(options), follow, output, format });
        return;
      }
      const { runAudit } = await import("./audit.ts");
      process.exitCode = await runAudit({ ...commandOptions(options), which, format });
    });
  audit
    .command("verify")
    .description(
      "verify the audit trail in the database, or in exported files, against its signed chain; exit with 1 if something was changed, removed or added",
    )
    .argument("[files...]", "files of audit export --checkpoints or --output; default: the database")
    .option("--keys <file>", "the key set that audit keys has printed; required for files")
    .option(
      "--checkpoints <file>",
      "checkpoints that were exported earlier: reveal that the end of the trail is missing, or that it was written again",
    )
    .option("--json", "print one JSON document")
    .addOption(file())
    .action(
      async (
        files: string[],
        options: { config: string; keys?: string; checkpoints?: string; json?: boolean },
      ) => {
        const { keys, checkpoints, json } = options;
        const { runAuditVerify } = await import("./audit-verify.ts");
        process.exitCode = await runAuditVerify({
          ...commandOptions(options),
          ...{ files, keys, checkpoints, json },
        });
      },
    );
  audit
    .command("keys")
    .description("print the public keys that verify the audit trail, as a JSON Web Key Set")
    .addOption(file())
    .action(async (options: { config: string }) => {
      const { runAuditKeys } = await import("./audit-verify.ts");
      process.exitCode = await runAuditKeys(commandOptions(options));
    });
}

export const userOption = () => new Option("--user <id>", "only for this user (PROVIDER/SUBJECT)");

function parseId(value: string): number {
  if (/^\d{1,15}$/.test(value)) return Number(value);
  throw new InvalidArgumentError("Write an event id: a whole number.");
}

function parseTime(value: string): Date {
  const at = new Date(value);
  if (!Number.isNaN(at.getTime())) return at;
  throw new InvalidArgumentError("Write a time such as 2026-01-31T12:00:00Z.");
}
