import type { Command, Option } from "commander";

/** Markdown that describes `program`: its options, and every command with arguments, options and defaults. */
export function cliReference(program: Command): string {
  const commands = program.commands.flatMap((command) =>
    command.commands.length === 0 ? [command] : [...command.commands],
  );
  return [
    "# Command line",
    "",
    "Generated from the program by `make docs`; a test compares them. Every command exits with 0 on success.",
    "",
    "Without a command:",
    "",
    ...optionTable(program.options),
    ...commands.map(
      (command) =>
        `- [\`${nameOf(command)}\`](#${nameOf(command).replaceAll(" ", "-")}): ${command.description()}`,
    ),
    "",
    ...commands.flatMap(section),
  ].join("\n");
}

function section(command: Command): string[] {
  const placeholders = command.registeredArguments.map((argument) =>
    argument.required ? ` <${argument.name()}>` : ` [${argument.name()}]`,
  );
  const usage = `envoy-mcp-auth ${nameOf(command)}${placeholders.join("")}${command.options.length > 0 ? " [options]" : ""}`;
  return [
    `## ${nameOf(command)}`,
    "",
    `${capital(command.description())}.`,
    "",
    "```",
    usage,
    "```",
    "",
    ...command.registeredArguments
      .filter(({ description }) => description)
      .map(
        (argument) => `- \`${argument.name()}\`: ${argument.description}${choicesOf(argument.argChoices)}`,
      ),
    ...(command.registeredArguments.some(({ description }) => description) ? [""] : []),
    ...(command.options.length > 0 ? optionTable(command.options) : []),
  ];
}

function optionTable(options: readonly Option[]): string[] {
  const rows = options
    .filter(({ hidden }) => !hidden)
    .map((option) => {
      const value: unknown = option.defaultValueDescription ?? option.defaultValue;
      const more = [
        option.mandatory ? "required" : "",
        option.argChoices ? `one of ${option.argChoices.join(", ")}` : "",
        option.envVar ? `environment: \`${option.envVar}\`` : "",
        value === undefined || value === false ? "" : `default: \`${String(value)}\``,
      ].filter(Boolean);
      return `| \`${option.flags}\` | ${option.description}${more.length > 0 ? ` (${more.join("; ")})` : ""} |`;
    });
  return ["| option | meaning |", "|---|---|", ...rows, ""];
}

function choicesOf(choices?: readonly string[]): string {
  return choices ? ` (one of ${choices.join(", ")})` : "";
}

function nameOf(command: Command): string {
  const { parent } = command;
  return parent?.parent ? `${parent.name()} ${command.name()}` : command.name();
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
