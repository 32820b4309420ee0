import { stringify } from "yaml";

/** One upstream or client on the page. */
interface Shown {
  readonly title: string;
  readonly habit: string;
  readonly sources: readonly { readonly url: string; readonly date: string }[];
  readonly looked: string;
  readonly guessed?: readonly string[];
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly personSaysServer?: true;
  readonly refusal?: { readonly why: string };
}
type Files = ReadonlyMap<string, Shown>;
type Reasons = Readonly<Record<string, string>>;

/**
 * Markdown that says for every simulated upstream and client whether it works, with which settings, or why not.
 * @param notYet reasons for those that do not work yet, by file name
 */
export function compatibilityPage(
  catalog: { readonly upstreams: Files; readonly clients: Files },
  notYet: { readonly upstreams: Reasons; readonly clients: Reasons },
): string {
  const all = [...catalog.upstreams.values(), ...catalog.clients.values()];
  const dates = all.map(({ looked }) => looked).sort();
  return `${[
    "# Compatibility with upstreams and clients",
    "",
    "Generated from `test/compatibility/` by `make docs`; a test compares them. Another test takes every row through the whole flow, with",
    "a real Envoy and a simulated server or client that behaves as the row's sources say. **No vendor's system was called**: later changes",
    "are not included. A date is that of the statement, or of the copy of the source; all were read",
    `${dates[0] === dates.at(-1) ? `on ${dates[0]}` : `between ${dates[0]} and ${dates.at(-1)}`}. Run [\`doctor\`](cli.md) to see the current state.`,
    "",
    "`works with` shows the keys of `mcp.server` that the route needs. Client ids and secrets are those of the client that you register",
    "there by hand. The names that the gateway keeps stable are in [compatibility.md](compatibility.md).",
    "",
    "## Upstreams",
    "",
    ...table(catalog.upstreams, notYet.upstreams),
    "",
    "## MCP clients",
    "",
    ...table(catalog.clients, notYet.clients),
    "",
  ].join("\n")}`;
}

function table(files: Files, notYet: Reasons): string[] {
  const rows = [...files]
    .sort(([, one], [, other]) => one.title.localeCompare(other.title, "en"))
    .map(([name, entry]) => {
      const guessed = entry.guessed ? ` (assumed: ${entry.guessed.join(", ")})` : "";
      const sources = entry.sources.map(({ url, date }) => `[${date}](${url})`).join(", ");
      const cells = [entry.title, outcome(entry, notYet[name]), `${entry.habit}${guessed}`, sources];
      return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
    });
  return ["| | result | behavior | sources |", "|---|---|---|---|", ...rows];
}

function outcome({ refusal, settings, personSaysServer }: Shown, notYet: string | undefined): string {
  if (notYet !== undefined) return `does not work yet: ${notYet}`;
  if (refusal) return `does not work: ${refusal.why}`;
  if (personSaysServer)
    return "works; on a gateway with several MCP servers, a page asks for the server's address";
  if (!settings) return "works";
  const shown = JSON.parse(JSON.stringify(settings), (key, value: unknown) =>
    key === "client_id" ? "ID" : key === "client_secret" ? `$\{SECRET}` : value,
  );
  return `works with \`${stringify(shown, { collectionStyle: "flow", lineWidth: 0 }).trim()}\``;
}
