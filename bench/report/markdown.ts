import type { Figure } from "./figure.ts";
import type { Report, Table } from "./report.ts";

/** The report as Markdown: targets first, then every table. Figures as `median (least–most)`. */
export function markdown({ tables, targets }: Report, machine: string): string {
  const rows = targets.map(
    ({ name, wanted, measured, met }) => `| ${name} | ${wanted} | ${measured} | ${met ? "yes" : "**no**"} |`,
  );
  return [
    machine,
    "",
    "| target | wanted | measured | met |",
    "|---|---|---|---|",
    ...rows,
    ...tables.flatMap(tableLines),
    "",
  ].join("\n");
}

/** Tables without targets. */
export function tablesMarkdown(tables: readonly Table[], machine: string): string {
  return [machine, ...tables.flatMap(tableLines), ""].join("\n");
}

function tableLines({ title, note, lines }: Table): string[] {
  const columns = [...new Set(lines.flatMap(({ figures }) => Object.keys(figures)))];
  return [
    "",
    `### ${title}`,
    "",
    note,
    "",
    `| | ${columns.join(" | ")} |`,
    `|---|${columns.map(() => "--:|").join("")}`,
    ...lines.map(
      ({ name, figures }) => `| ${name} | ${columns.map((column) => cell(figures[column])).join(" | ")} |`,
    ),
  ];
}

function cell(value: Figure | number | string | undefined): string {
  if (value === undefined) return "";
  if (typeof value === "string") return value;
  if (typeof value === "number") return number(value);
  return value.rounds === 1
    ? number(value.median)
    : `${number(value.median)} (${number(value.least)}–${number(value.most)})`;
}

function number(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3);
}
