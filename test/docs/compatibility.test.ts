import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { openapi } from "../../src/admin/openapi.ts";
import { program } from "../../src/cli/program.ts";
import { accessLog } from "../../src/envoy-config/http-filters.ts";
import { provenFields } from "../../src/external-tokens/metadata-proofs.ts";
import { auditActions, renamedActions } from "../../src/store/audit-events.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { failureWords } from "../../src/upstream-oauth/failures.ts";

const root = join(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const sources = globSync("src/**/*.ts", { cwd: root }).map(read);
const page = read("docs/compatibility.md");

function section(title: string): string {
  const found = page.split(/^## /m).find((one) => one.startsWith(`${title}\n`));
  if (found === undefined) throw new Error(`docs/compatibility.md has no section "${title}"`);
  return found;
}

/** The cells of a section's table, without its head. */
function rows(title: string): string[][] {
  const lines = section(title)
    .split("\n")
    .filter((line) => line.startsWith("|"));
  return lines.slice(2).map((line) =>
    line
      .slice(1, -1)
      .split("|")
      .map((cell) => cell.trim()),
  );
}

const names = (text = "") => [...text.matchAll(/`([^`]+)`/g)].map(([, name]) => name ?? "");
const first = (text = "") => names(text)[0];

/** The names of the fields of every object that is written out in a call of a logger. */
function loggedFields(source: string): string[] {
  const calls = source.matchAll(/logger\??(?:\.(?:trace|debug|info|warn|error|fatal)|\[[^\]]*\])\(\s*\{/g);
  return [...calls].flatMap((call) => {
    const members = [""];
    let depth = 1;
    for (let index = call.index + call[0].length; depth > 0; index += 1) {
      const character = source.charAt(index);
      if (/[([{]/.test(character)) depth += 1;
      if (/[)\]}]/.test(character)) depth -= 1;
      if (depth === 1 && character === ",") members.push("");
      else members.push((members.pop() ?? "") + character);
    }
    return members.flatMap((member) => /^\s*(\w+)/.exec(member)?.[1] ?? []);
  });
}

const commandNames = (command: Command, parents: readonly string[] = []): string[] =>
  command.commands.flatMap((one) => {
    const path = [...parents, one.name()];
    return one.commands.length === 0 ? [path.join(" ")] : commandNames(one, path);
  });

describe("docs/compatibility.md names everything in the code, and nothing else", () => {
  it("metrics, with their types and labels", () => {
    const metrics = createMetrics().registry.getMetricsAsArray();
    const documented = rows("Metrics").map(([name, type, labels]) => [first(name), type, names(labels)]);
    const made = metrics.map((metric) => [
      metric.name.replace(/^envoy_mcp_auth_/, ""),
      metric.constructor.name.toLowerCase(),
      "labelNames" in metric ? metric.labelNames : [],
    ]);
    expect(documented.toSorted()).toEqual(made.toSorted());
  });

  it("log fields", () => {
    const documented = rows("Log fields").flatMap(([fields]) => names(fields));
    const logged = new Set(sources.flatMap(loggedFields));
    expect([...logged].filter((field) => !documented.includes(field))).toEqual([]);
    const all = sources.join("\n");
    expect(documented.filter((field) => !new RegExp(`\\b${field}\\b`).test(all))).toEqual([]);
  });

  it("fields of Envoy's access log", () => {
    const json_format = z.record(z.string(), z.string());
    const log_format = z.object({ json_format });
    const { typed_config } = z.object({ typed_config: z.object({ log_format }) }).parse(accessLog());
    const documented = rows("Access log").flatMap(([cell]) => names(cell));
    expect(documented.toSorted()).toEqual(Object.keys(typed_config.log_format.json_format).toSorted());
  });

  it("audit actions, with their former names", () => {
    const former = new Map<string, string>(renamedActions);
    expect(rows("Audit events").map(([name, before]) => [first(name), first(before)])).toEqual(
      auditActions.map((action) => [action, former.get(action)]),
    );
  });

  it("keys of the dynamic metadata, and which of them are authenticated", () => {
    const type = /export type AllowMetadata = Readonly<\{\n(.*?)\n\}>;/s.exec(
      read("src/ext-authz/decision.ts"),
    )?.[1];
    const keys = [...(type ?? "").matchAll(/^ {2}(\w+)\?:/gm)].map(([, key]) => key);
    const documented = rows("Dynamic metadata");
    expect(documented.map(([key]) => first(key)).toSorted()).toEqual(keys.toSorted());
    const authenticated = documented.filter(([, , proven]) => proven === "yes").map(([key]) => first(key));
    expect(authenticated.toSorted()).toEqual([...provenFields].toSorted());
  });

  it("commands", () => {
    expect(rows("Command line").map(([command]) => first(command))).toEqual(commandNames(program));
  });

  it("operations of the admin API, and their errors", () => {
    const operations = Object.entries(openapi("1.0.0").paths).flatMap(([path, methods]) =>
      Object.keys(methods)
        .filter((method) => method !== "parameters")
        .map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(rows("Admin API").map(([operation]) => first(operation))).toEqual(operations);
    const thrown = sources.flatMap((source) =>
      [...source.matchAll(/new AdminError\(\s*\d+,\s*"(\w+)"/g)].map(([, code]) => code),
    );
    expect(thrown.length).toBeGreaterThan(5);
    const documented = names(section("Admin API"));
    expect(thrown.filter((code) => !documented.includes(code ?? ""))).toEqual([]);
  });

  it("faults of an upstream", () => {
    const listed = section("Error codes and reasons").split("Faults of an upstream:")[1];
    expect(names(listed).toSorted()).toEqual(Object.keys(failureWords).toSorted());
  });
});

it("the page on names and the page on vendors refer to each other", () => {
  expect(page).toContain("](compatibility-with.md)");
  expect(read("docs/compatibility-with.md")).toContain("](compatibility.md)");
});
