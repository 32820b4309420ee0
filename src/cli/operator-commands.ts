import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { createFields } from "../config/field-types.ts";
import { readNoFile } from "../config/referenced-files.ts";
import { type SigningKeyPurpose, signingKeyPurposes } from "../store/signing-keys.ts";
import { addAuditCommands, userOption } from "./audit-commands.ts";
import { type Cursor, type ListingOptions, readCursor } from "./listing.ts";

/**
 * Adds the commands that use the database: `rotate-keys`, `rotate-signing-key`, `routes`, `connections`, `grants`, `end-access`,
 * `service-accounts`, `audit`.
 * @param file creates the option `--config`
 */
export function addOperatorCommands(
  program: Command,
  file: () => Option,
  commandOptions: (options: { config: string }) => ListingOptions,
): void {
  const listingOptions = ({ config, json, limit, after }: ListArguments): ListingOptions => ({
    ...commandOptions({ config }),
    ...{ json, limit, after },
  });
  // `--signing` and its options are the former name of `rotate-signing-key`.
  program
    .command("rotate-keys")
    .description("re-encrypt stored secrets with the first key of encryption.keys")
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
        process.exitCode = await runRotateKeys({ ...commandOptions(options), ...options });
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
        process.exitCode = await runRotateKeys({ ...commandOptions(options), signing, publish, revokeOld });
      },
    );

  const routes = program.command("routes").description("list routes");
  addListOptions(
    routes
      .command("list")
      .description("list the routes of the routes file and of the database, and whether they are in force"),
  )
    .addOption(file())
    .action(async (options: ListArguments) => {
      const { runRoutes } = await import("./routes.ts");
      process.exitCode = await runRoutes(listingOptions(options));
    });

  const connections = program.command("connections").description("manage users' upstream connections");
  for (const action of ["list", "revoke"] as const) {
    const command = connections
      .command(action)
      .description(
        action === "list"
          ? "list connections by user and route"
          : "delete connections and revoke their tokens at the upstream; it reports those that are not revoked there, and why. Exit code 1: there was none",
      )
      .addOption(userOption())
      .option("--route <id>", "only for this route");
    if (action === "list") addListOptions(command);
    else command.addOption(reasonOption());
    command
      .addOption(file())
      .action(async (options: ListArguments & RevokeOptions & { user?: string; route?: string }) => {
        if (action === "revoke" && !options.user && !options.route)
          command.error("specify --user, --route or both");
        const which = { userId: options.user, routeId: options.route };
        const { reason } = options;
        const { runConnections } = await import("./connections.ts");
        process.exitCode = await runConnections(action, { ...listingOptions(options), which, reason });
      });
  }

  const grants = program.command("grants").description("manage the grants of MCP clients");
  addListOptions(
    grants
      .command("list")
      .description(
        "list grants by user and client, with the names of the clients: only one from the routes file is verified, clients choose the others themselves",
      )
      .addOption(userOption())
      .option("--client <id>", "only for this client"),
  )
    .addOption(file())
    .action(async (options: ListArguments & { user?: string; client?: string }) => {
      const which = { userId: options.user, clientId: options.client };
      const { runGrants } = await import("./grants.ts");
      process.exitCode = await runGrants("list", { ...listingOptions(options), which });
    });
  grants
    .command("revoke")
    .description(
      "revoke grants and all tokens issued from them, on every replica within a second. Exit code 1: there was none",
    )
    .argument("[grant]", "id of the grant")
    .option("--user <id>", "all grants of this user (PROVIDER/SUBJECT), who is also signed out everywhere")
    .option("--client <id>", "all grants of this client")
    .addOption(reasonOption())
    .addOption(file())
    .action(
      async (
        grantId: string | undefined,
        options: RevokeOptions & { user?: string; client?: string },
        command: Command,
      ) => {
        if (!grantId && !options.user && !options.client)
          command.error("specify a grant's id, --user or --client");
        const which = { grantId, userId: options.user, clientId: options.client };
        const { runGrants } = await import("./grants.ts");
        process.exitCode = await runGrants("revoke", {
          ...commandOptions(options),
          which,
          reason: options.reason,
        });
      },
    );

  program
    .command("end-access")
    .description(
      "after restoring the database from a backup: revoke all external tokens, refresh tokens, grants, service accounts, delegations and browser sessions, on every replica within a second",
    )
    .option("--reason <text>", "reason for the audit trail", "ended by an operator")
    .option(
      "--yes",
      "confirm that all users have to sign in again and all clients have to authorize again",
      false,
    )
    .addOption(file())
    .action(async (options: { config: string; reason: string; yes: boolean }, command: Command) => {
      if (!options.yes)
        command.error(
          "all users will have to sign in again and all clients to authorize again: confirm with --yes",
        );
      const { runEndAccess } = await import("./end-access.ts");
      process.exitCode = await runEndAccess({ ...commandOptions(options), reason: options.reason });
    });

  const accounts = program
    .command("service-accounts")
    .description("manage service accounts and their long-lived tokens");
  accounts
    .command("create")
    .description("create a service account and print a token for each route; tokens are shown only once")
    .argument("<name>", "name: letters, digits, dots, dashes and underscores", serviceAccountName)
    .requiredOption(
      "--route <id>",
      "a route that it may call; repeatable. With an aggregated route, also its members: those that are named as well, or else all that it has now",
      (id: string, ids: string[] = []) => [...ids, id],
    )
    .option("--owner <id>", "user (PROVIDER/SUBJECT) who may delegate their connections to it in the portal")
    .addOption(
      new Option("--expires-in <duration>", "lifetime of its tokens")
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
        process.exitCode = await runServiceAccounts(action, commandOptions(options));
      },
    );
  addListOptions(accounts.command("list").description("list names, routes, owners, delegations and expiry"))
    .addOption(file())
    .action(async (options: ListArguments) => {
      const { runServiceAccounts } = await import("./service-accounts.ts");
      process.exitCode = await runServiceAccounts({ kind: "list" }, listingOptions(options));
    });
  accounts
    .command("revoke")
    .description(
      "revoke a service account and its tokens, on every replica within a second. Exit code 1: there was none",
    )
    .argument("<name>")
    .addOption(reasonOption())
    .addOption(file())
    .action(async (name: string, options: RevokeOptions) => {
      const action = { kind: "revoke", name, reason: options.reason } as const;
      const { runServiceAccounts } = await import("./service-accounts.ts");
      process.exitCode = await runServiceAccounts(action, commandOptions(options));
    });

  addAuditCommands(program, file, commandOptions);
}

const delayOption = (flags: string) =>
  new Option(flags, "sign with the new key after this time; until then it is only published")
    .default(600, "10m")
    .argParser(parseSeconds);

const revokeOldOption = () =>
  new Option(
    "--revoke-old",
    "revoke the older keys and everything they have signed immediately; not for audit",
  ).default(false);

/** The options of commands that list. */
interface ListArguments {
  readonly config: string;
  readonly json?: boolean;
  readonly limit?: number;
  readonly after?: Cursor;
}

function addListOptions(command: Command): Command {
  return command
    .option("--json", "print one JSON document per line instead of a table")
    .addOption(new Option("--limit <rows>", "print at most this many rows").argParser(parseRows))
    .addOption(
      new Option(
        "--after <cursor>",
        "continue after the row with this cursor: every JSON document has one",
      ).argParser(parseCursor),
    );
}
interface RevokeOptions {
  readonly config: string;
  readonly reason: string;
}

const reasonOption = () =>
  new Option("--reason <text>", "reason for the audit trail, such as a ticket").default(
    "revoked by an operator",
  );

/** The routes file's format: seconds, or 30s, 5m, 1h, 30d. */
function parseSeconds(value: string): number {
  const fields = createFields({ folder: ".", env: {}, worldReadable: false, readFile: readNoFile });
  const parsed = fields.duration(1).safeParse(/^\d+$/.test(value) ? Number(value) : value);
  if (parsed.success) return parsed.data;
  throw new InvalidArgumentError("Write seconds as a number, or 30s, 5m, 1h, 30d.");
}

function parseRows(value: string): number {
  if (/^[1-9]\d{0,8}$/.test(value)) return Number(value);
  throw new InvalidArgumentError("Write a whole number from 1.");
}

function parseCursor(value: string): Cursor {
  const cursor = readCursor(value);
  if (cursor) return cursor;
  throw new InvalidArgumentError("Write the cursor of a listed row.");
}

function serviceAccountName(value: string): string {
  if (/^[A-Za-z0-9._-]{1,100}$/.test(value)) return value;
  throw new InvalidArgumentError("Write at most 100 letters, digits, dots, dashes and underscores.");
}
