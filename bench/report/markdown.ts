import type { Figure } from "./figure.ts";
import type { Report, Table } from "./report.ts";
import { keeping, type Target, verdict } from "./target.ts";

/** The report as Markdown: targets first, then every table. Figures as `median (least–most)`. */
export function markdown({ tables, targets }: Report, machine: string): string {
  return [
    machine,
    "",
    "| target | wanted | measured | met |",
    "|---|---|---|---|",
    ...targets.map(targetLine),
    ...tables.flatMap(tableLines),
    "",
  ].join("\n");
}

const answers = { met: "yes", missed: "**no**", undecided: "**undecided**" } as const;

function targetLine(target: Target): string {
  const { name, wanted, measured, unit = "" } = target;
  const { atLeast, atMost, everyRound } = wanted;
  const limit = atLeast === undefined ? `≤ ${atMost}` : `≥ ${atLeast}`;
  const rounds = measured.values.length;
  const [from, to] = everyRound ? [measured.least, measured.most] : measured.surely;
  const range = rounds === 1 ? "" : ` (${number(from)}–${number(to)})`;
  const kept = everyRound ? `, within it in ${keeping(wanted, measured)} of ${rounds} rounds` : "";
  return `| ${name} | ${limit}${unit}${everyRound ? " in every round" : ""} | ${number(measured.median)}${unit}${range}${kept} | ${answers[verdict(target)]} |`;
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
  return value.values.length === 1
    ? number(value.median)
    : `${number(value.median)} (${number(value.least)}–${number(value.most)})`;
}

function number(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3);
}
