import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { createFields } from "../config/fields.ts";
import type { SigningKeyPurpose } from "../store/signing-keys.ts";
import type { CommandOptions } from "./command.ts";

/**
 * The operator's commands on what is stored: `rotate-keys`, `rotate-signing-key`, `connections`, `grants`, `end-access`,
 * `service-accounts`, `audit export`.
 * @param file makes the option `--config`
 */
export function addOperatorCommands(
  program: Command,
  file: () => Option,
  place: (options: { config: string }) => CommandOptions,
): void {
  // `--signing` and what goes with it: the former name of `rotate-signing-key`.
  program
    .command("rotate-keys")
    .description("re-encrypt stored secrets with the newest encryption key")
    .addOption(
      new Option("--signing <purpose>", "rotate the signing key for this purpose")
        .choices(signingKeyPurposes)
        .hideHelp(),
    )
    .addOption(delayOption("--publish <duration>").hideHelp())
    .addOption(revokeOldOption().hideHelp())
    .addOption(file())
    .action(
      async (options: {
        config: string;
        signing?: SigningKeyPurpose;
        publish: number;
        revokeOld: boolean;
      }) => {
        const { runRotateKeys } = await import("./rotate-keys.ts");
        process.exitCode = await runRotateKeys({ ...place(options), ...options });
      },
    );

  program
    .command("rotate-signing-key")
    .description("create a new signing key; the older keys still verify what they have signed")
    .addArgument(new Argument("<purpose>", "what the key signs").choices(signingKeyPurposes))
    .addOption(delayOption("--activate-after <duration>"))
    .addOption(revokeOldOption())
    .addOption(file())
    .action(
      async (
        signing: SigningKeyPurpose,
        options: { config: string; activateAfter: number; revokeOld: boolean },
      ) => {
        const { activateAfter: publish, revokeOld } = options;
        const { runRotateKeys } = await import("./rotate-keys.ts");
        process.exitCode = await runRotateKeys({ ...place(options), signing, publish, revokeOld });
      },
    );

  const connections = program.command("connections").description("users' upstream tokens");
  for (const action of ["list", "revoke"] as const) {
    connections
      .command(action)
      .description(
        action === "list" ? "who is connected to what" : "delete connections here, and their tokens upstream",
      )
      .addOption(userOption())
      .option("--route <id>", "to this route only")
      .addOption(file())
      .action(async (options: { config: string; user?: string; route?: string }, command: Command) => {
        if (action === "revoke" && !options.user && !options.route)
          command.error("say which: --user, --route or both");
        const which = { userId: options.user, routeId: options.route };
        const { runConnections } = await import("./connections.ts");
        process.exitCode = await runConnections(action, { ...place(options), which });
      });
  }

  const grants = program.command("grants").description("what people have allowed MCP clients to do");
  grants
    .command("list")
    .description("who has allowed which client")
    .addOption(userOption())
    .option("--client <id>", "of this client only")
    .addOption(file())
    .action(async (options: { config: string; user?: string; client?: string }) => {
      const which = { userId: options.user, clientId: options.client };
      const { runGrants } = await import("./grants.ts");
      process.exitCode = await runGrants("list", { ...place(options), which });
    });
  grants
    .command("revoke")
    .description("end grants and all tokens that came of them, on every replica within a second")
    .argument("[grant]", "id of the grant")
    .option("--user <id>", "all of this user, who is signed out everywhere, too: PROVIDER/SUBJECT")
    .option("--client <id>", "all of this client")
    .addOption(file())
    .action(
      async (
        grantId: string | undefined,
        options: { config: string; user?: string; client?: string },
        command: Command,
      ) => {
        if (!grantId && !options.user && !options.client)
          command.error("say which: a grant's id, --user or --client");
        const which = { grantId, userId: options.user, clientId: options.client };
        const { runGrants } = await import("./grants.ts");
        process.exitCode = await runGrants("revoke", { ...place(options), which });
      },
    );

  program
    .command("end-access")
    .description(
      "after a database was restored from a backup: end every external token, refresh token, grant, service account, delegation and browser session there is, on every replica within a second",
    )
    .option("--reason <text>", "for the audit trail", "ended by an operator")
    .option("--yes", "yes, everybody has to sign in, and every client to authorize, again", false)
    .addOption(file())
    .action(async (options: { config: string; reason: string; yes: boolean }, command: Command) => {
      if (!options.yes)
        command.error("everybody has to sign in, and every client to authorize, again: say --yes");
      const { runEndAccess } = await import("./end-access.ts");
      process.exitCode = await runEndAccess({ ...place(options), reason: options.reason });
    });

  const accounts = program.command("service-accounts").description("long-lived tokens for service accounts");
  accounts
    .command("create")
    .description("print a token for each route; it is shown once")
    .argument("<name>", "letters, digits, dots, dashes and underscores", serviceAccountName)
    .requiredOption(
      "--route <id>",
      "a route it may call; once for each",
      (id: string, ids: string[] = []) => [...ids, id],
    )
    .option("--owner <id>", "who may let it use their own connections, in the portal: PROVIDER/SUBJECT")
    .addOption(
      new Option("--expires-in <duration>", "how long its tokens are good")
        .default(365 * 86_400, "365d")
        .argParser(parseSeconds),
    )
    .addOption(file())
    .action(
      async (
        name: string,
        options: { config: string; route: string[]; owner?: string; expiresIn: number },
      ) => {
        const { route: routeIds, owner: ownerId, expiresIn: lifetime } = options;
        const action = { kind: "create", name, routeIds, ownerId, lifetime } as const;
        const { runServiceAccounts } = await import("./service-accounts.ts");
        process.exitCode = await runServiceAccounts(action, place(options));
      },
    );
  accounts
    .command("list")
    .description("names, routes, owners, what these have delegated, and ends")
    .addOption(file())
    .action(async (options: { config: string }) => {
      const { runServiceAccounts } = await import("./service-accounts.ts");
      process.exitCode = await runServiceAccounts({ kind: "list" }, place(options));
    });
  accounts
    .command("revoke")
    .description("end its tokens, on every replica within a second")
    .argument("<name>")
    .addOption(file())
    .action(async (name: string, options: { config: string }) => {
      const { runServiceAccounts } = await import("./service-accounts.ts");
      process.exitCode = await runServiceAccounts({ kind: "revoke", name }, place(options));
    });

  // The default, because `audit` alone is its former name.
  program
    .command("audit")
    .description("the audit trail")
    .command("export", { isDefault: true })
    .description("print audit events as JSON lines, oldest first")
    .addOption(
      new Option("--after <id>", "only events with a greater id: where the last export ended").argParser(
        parseId,
      ),
    )
    .addOption(
      new Option("--since <time>", "only events at or after this time (RFC 3339)").argParser(parseTime),
    )
    .addOption(new Option("--until <time>", "only events before this time").argParser(parseTime))
    .option("--action <action>", "only events with this action, such as grant.revoked")
    .addOption(userOption())
    .option("--route <id>", "only events of this route")
    .addOption(file())
    .action(
      async (options: {
        config: string;
        after?: number;
        since?: Date;
        until?: Date;
        action?: string;
        user?: string;
        route?: string;
      }) => {
        const { after, since, until, action, user: userId, route: routeId } = options;
        const which = { after, since, until, action, userId, routeId, settled: until === undefined };
        const { runAudit } = await import("./audit.ts");
        process.exitCode = await runAudit({ ...place(options), which });
      },
    );
}

const signingKeyPurposes: SigningKeyPurpose[] = [
  "external_token",
  "assertion",
  "upstream_client",
  "check_metadata",
];

const delayOption = (flags: string) =>
  new Option(flags, "sign with the new key after this time; until then it is only published")
    .default(600, "10m")
    .argParser(parseSeconds);

const revokeOldOption = () =>
  new Option("--revoke-old", "revoke the older keys, and everything they have signed, at once").default(
    false,
  );

const userOption = () => new Option("--user <id>", "of this user only: PROVIDER/SUBJECT");

/** As in the routes file: seconds, or 30s, 5m, 1h, 30d. */
function parseSeconds(value: string): number {
  const fields = createFields({ folder: ".", env: {}, worldReadable: false, referencedFiles: new Set() });
  const parsed = fields.duration(1).safeParse(/^\d+$/.test(value) ? Number(value) : value);
  if (parsed.success) return parsed.data;
  throw new InvalidArgumentError("Write seconds as a number, or 30s, 5m, 1h, 30d.");
}

function parseId(value: string): number {
  if (/^\d{1,15}$/.test(value)) return Number(value);
  throw new InvalidArgumentError("Write the id of an event: a whole number.");
}

function parseTime(value: string): Date {
  const at = new Date(value);
  if (!Number.isNaN(at.getTime())) return at;
  throw new InvalidArgumentError("Write a time as 2026-01-31T12:00:00Z.");
}

function serviceAccountName(value: string): string {
  if (/^[A-Za-z0-9._-]{1,100}$/.test(value)) return value;
  throw new InvalidArgumentError("Letters, digits, dots, dashes and underscores, 100 at most.");
}
