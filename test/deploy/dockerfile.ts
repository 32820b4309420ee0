/** One instruction of a Dockerfile; continuation lines are joined. */
export interface Instruction {
  /** `RUN`, `COPY`, ... */
  readonly name: string;
  /** All that follows the name. */
  readonly text: string;
}

/** A stage, from its `FROM` to the next. */
export interface Stage {
  /** The base image, without its digest. */
  readonly from: string;
  readonly name?: string;
  readonly instructions: readonly Instruction[];
}

/**
 * Reads the instructions that our Dockerfile uses.
 * @throws Error on what it does not know, such as a variable or a here-document, so that a test cannot skip it silently
 */
export function parseDockerfile(text: string): readonly Stage[] {
  const lines = text
    .split("\n")
    .filter((line) => !/^\s*(#|$)/.test(line))
    .join("\n")
    .replaceAll(/\s*\\\n\s*/g, " ")
    .split("\n");
  const stages: (Stage & { instructions: Instruction[] })[] = [];
  for (const line of lines) {
    const [, name = "", rest = ""] = /^([A-Z]+)\s+(.+)$/.exec(line) ?? [];
    if (name === "FROM") {
      const [, from = "", as] = /^(\S+?)(?:@sha256:\w+)?(?:\s+AS\s+(\S+))?$/.exec(rest) ?? [];
      stages.push({ from, name: as, instructions: [] });
    } else if (known.has(name) && !/<<|\$[{A-Z]/.test(rest))
      stages.at(-1)?.instructions.push({ name, text: rest });
    else throw new Error(`the Dockerfile has an instruction that the test does not know: ${line}`);
  }
  return stages;
}

const known = new Set([
  ...["CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE"],
  ...["HEALTHCHECK", "LABEL", "RUN", "USER", "WORKDIR"],
]);

/** `COPY a b ./` or `COPY --from=stage a b` */
export interface Copy {
  readonly from?: string;
  readonly sources: readonly string[];
  readonly target: string;
}

/** The operands of a `COPY`. @param text what follows the instruction's name */
export function parseCopy(text: string): Copy {
  const words = text.split(/\s+/);
  const from = words[0]?.startsWith("--from=") ? words.shift()?.slice("--from=".length) : undefined;
  return { from, sources: words.slice(0, -1), target: words.at(-1) ?? "" };
}

/** The words of `ENTRYPOINT ["a", "b"]`; the shell form is not supported, since there is no shell. */
export function execForm(stage: Stage, name: "ENTRYPOINT" | "CMD" | "HEALTHCHECK"): readonly string[] {
  const { text = "" } = stage.instructions.findLast((one) => one.name === name) ?? {};
  return JSON.parse(text.slice(text.indexOf("[")));
}

/** The variables that a stage sets: `ENV A=b C=d`. */
export function environment(stage: Stage): Record<string, string> {
  const pairs = stage.instructions
    .filter(({ name }) => name === "ENV")
    .flatMap(({ text }) => text.split(/\s+/));
  return Object.fromEntries(
    pairs.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]),
  );
}
