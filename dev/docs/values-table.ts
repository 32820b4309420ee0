import { isMap, isScalar, parseDocument, type YAMLMap } from "yaml";

/** One value of the chart. */
interface ValueRow {
  readonly name: string;
  /** As JSON. */
  readonly default: string;
  readonly meaning: string;
}

/**
 * The chart's values in the order of `values.yaml`. A mapping in block style is a section, one in flow style (`{ }`) a single value. The
 * comment before a value is its meaning.
 * @throws Error that names a value without a comment
 */
export function valueRows(yaml: string): ValueRow[] {
  const { contents } = parseDocument(yaml);
  if (!isMap(contents)) throw new Error("values.yaml is not a mapping");
  return rowsOf(contents, "");
}

function rowsOf(map: YAMLMap, prefix: string): ValueRow[] {
  return map.items.flatMap(({ key, value }, index): ValueRow[] => {
    if (!isScalar(key)) throw new Error("a key is not a text");
    const name = `${prefix}${key.value}`;
    if (isMap(value) && !value.flow && value.items.length > 0) return rowsOf(value, `${name}.`);
    // The comment of a mapping's first key belongs to the mapping.
    const comment = index === 0 ? (key.commentBefore ?? map.commentBefore) : key.commentBefore;
    // After a blank line, so that the file can begin with another one.
    const meaning = comment
      ?.split(/\n\s*\n/)
      .at(-1)
      ?.trim();
    if (!meaning) throw new Error(`values.yaml: ${name} has no comment`);
    const written = isMap(value) || value !== null ? Object(value).toJSON() : null;
    return [
      {
        name,
        default: JSON.stringify(written),
        meaning: meaning
          .split("\n")
          .map((line) => line.trim())
          .join(" "),
      },
    ];
  });
}

const begin = "<!-- values: generated from values.yaml by `make docs` -->";
const end = "<!-- end of values -->";

/** The chart's README with the table of `values.yaml`. @throws Error if the text has no place for it */
export function chartReadme(text: string, yaml: string): string {
  const [before, after] = [text.indexOf(begin), text.indexOf(end)];
  if (before < 0 || after < before)
    throw new Error(`the chart's README.md has no lines "${begin}" and "${end}"`);
  const cell = (value: string) => value.replaceAll("|", "\\|");
  const rows = valueRows(yaml).map(
    ({ name, default: given, meaning }) => `| \`${name}\` | \`${cell(given)}\` | ${cell(meaning)} |`,
  );
  const table = ["| value | default | meaning |", "|---|---|---|", ...rows].join("\n");
  return `${text.slice(0, before)}${begin}\n${table}\n${text.slice(after)}`;
}
