import { labelValues } from "../../src/telemetry/label-values.ts";

const begin = "### Label values\n";
/** The next section. */
const end = "\n## ";

/** docs/monitoring.md with the table of label values as the code declares them. */
export function withLabelValues(page: string): string {
  const [before, rest = ""] = page.split(begin);
  const after = rest.slice(rest.indexOf(end));
  return `${before}${begin}\n${table()}${after}`;
}

function table(): string {
  const rows = Object.entries(labelValues).flatMap(([metric, labels]) =>
    Object.entries(labels).map(
      ([label, values]: [string, string | readonly string[]]) =>
        `| \`${metric}\` | \`${label}\` | ${typeof values === "string" ? values : values.map((value) => `\`${value}\``).join(", ")} |\n`,
    ),
  );
  return `All values that a label can have, without the prefix \`envoy_mcp_auth_\`. Generated from the code, which emits no others.

| metric | label | values |
|---|---|---|
${rows.join("")}`;
}
