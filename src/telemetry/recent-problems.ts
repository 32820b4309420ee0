/** Warnings and errors of one kind, by message and what they are about. */
export interface RecentProblem {
  readonly severity: "warning" | "error";
  readonly message: string;
  /** Fields of the newest of them, without secrets. */
  readonly facts: Readonly<Record<string, string>>;
  readonly count: number;
  readonly lastAt: Date;
}

/** The last warnings and errors that this process has logged, for people without access to its log. */
export interface RecentProblems {
  /** @param fields of the log line; only those that name things are kept */
  add(severity: RecentProblem["severity"], message: string, fields: unknown): void;
  /** The newest first. */
  list(): readonly RecentProblem[];
}

const maxKinds = 50;
const maxLength = 300;
/** Names and reasons: neither values that may be secret nor who is concerned. */
const keptFields = ["route", "upstream", "issuer", "table", "reason", "code", "problem", "host"] as const;
/** Values with the form of an error code: a field `code` may also be an authorization code. */
const codeWords = /^[a-z]+(?:_[a-z]+)*$|^[A-Z][A-Z0-9_]*$/;

export function createRecentProblems(): RecentProblems {
  const kinds = new Map<string, RecentProblem>();
  return {
    add(severity, message, fields) {
      const facts = factsOf(fields);
      const kind = JSON.stringify([message, facts.route, facts.table]);
      const count = (kinds.get(kind)?.count ?? 0) + 1;
      // The order of a map is that of insertion: the newest is last.
      kinds.delete(kind);
      kinds.set(kind, { severity, message, facts, count, lastAt: new Date() });
      const [oldest] = kinds.keys();
      if (kinds.size > maxKinds && oldest !== undefined) kinds.delete(oldest);
    },
    list: () => [...kinds.values()].reverse(),
  };
}

function factsOf(fields: unknown): Readonly<Record<string, string>> {
  if (typeof fields !== "object" || fields === null) return {};
  const given = new Map(Object.entries(fields));
  return Object.fromEntries(
    keptFields.flatMap((name) => {
      const value = given.get(name);
      if (typeof value !== "string" || (name === "code" && !codeWords.test(value))) return [];
      return [[name, value.slice(0, maxLength)]];
    }),
  );
}
