import type { FaultResult } from "./run-faults.ts";

/** A fault that must not cause any errors. */
const isUnnoticed = (name: string) => /rolling restart|unauthenticated|endless/.test(name);

/**
 * Errors during a fault that must not cause any. On a busy machine, one call in ten may have hit a timeout, because of a stall
 * rather than the fault.
 */
export function noticed({ name, outcomes, late, calls }: FaultResult, timed: boolean): number {
  if (!isUnnoticed(name)) return 0;
  return timed || 10 * late > calls ? outcomes.allowed : outcomes.allowed - late;
}

/**
 * The table as text, and the missed targets: wrong 0, hung 0, lost 0, revoked 0 except for the gap, some calls right, recovered afterwards,
 * and those of each fault.
 * @param options.notRun faults that this machine cannot have
 * @param options.timed also checks durations, on an otherwise idle machine
 */
export function faultTable(
  results: readonly FaultResult[],
  strangeCredentials: number,
  { timed, notRun = [] }: { timed: boolean; notRun?: readonly string[] } = { timed: true },
): { text: string; failures: string[] } {
  const failures: string[] = results.length === 0 ? ["no fault was run"] : [];
  const rows = results.map((result) => {
    const { name, outcomes, server } = result;
    const already = failures.length;
    const revoked = server.revokedByReuse - server.revokedInGap;
    const lost = Math.max(0, result.lost - server.revokedInGap);
    const targets = {
      wrong: outcomes.wrong,
      hung: outcomes.hung,
      "connections lost": lost,
      "families revoked": revoked,
      "refreshes not needed": server.refreshes - server.needed,
    };
    for (const [target, count] of Object.entries(targets))
      if (count > 0) failures.push(`${name}: ${target} ${count}`);
    if (!result.wellAgain) failures.push(`${name}: not recovered`);
    // A fault that stops all calls would meet every other target.
    if (outcomes.right === 0) failures.push(`${name}: no call was right`);
    failures.push(...(result.missed ?? []).map((target) => `${name}: ${target}`));
    const recovered = /recovered in ([\d.]+) s/.exec(result.note ?? "")?.[1];
    if (timed && recovered !== undefined && Number(recovered) > 2)
      failures.push(`${name}: recovered in ${recovered} s`);
    const heap = /heap at most (\d+) MiB/.exec(result.note ?? "")?.[1];
    if (heap !== undefined && Number(heap) >= 256) failures.push(`${name}: Envoy's heap ${heap} MiB`);
    const errors = noticed(result, timed);
    if (errors > 0) failures.push(`${name}: errors ${errors}`);
    // The responses are the first thing needed to analyze a failure.
    if (failures.length > already)
      failures.push(...Object.entries(result.answers).map(([what, count]) => `${name}: ${count} x ${what}`));
    return [
      name,
      result.calls,
      outcomes.right,
      outcomes.allowed,
      outcomes.wrong,
      outcomes.hung,
      `${result.before} / ${result.after}`,
      `${server.refreshes} / ${server.needed}`,
      `${revoked} (+${server.revokedInGap} in the gap)`,
      result.note ?? "",
    ].map(String);
  });
  const head = [
    "fault",
    "calls",
    "right",
    "allowed error",
    "wrong",
    "hung",
    "connections before / after",
    "refreshes / needed",
    "families revoked",
    "note",
  ];
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const errors = results.flatMap(({ name, answers }) =>
    Object.entries(answers).map(([what, count]) => `- ${name}: ${count} x ${what}`),
  );
  if (strangeCredentials > 0) failures.push(`requests with an unexpected credential: ${strangeCredentials}`);
  const text = [
    line(head),
    line(head.map(() => "---")),
    ...rows.map(line),
    "",
    "Responses other than the right one:",
    ...(errors.length > 0 ? errors : ["- none"]),
    "",
    `Requests that reached the MCP server with an unexpected credential: ${strangeCredentials}`,
    ...notRun.map((why) => `NOT RUN: ${why}`),
    failures.length > 0
      ? `MISSED: ${failures.join("; ")}`
      : `All targets met${notRun.length > 0 ? " of what was run" : ""}.`,
  ].join("\n");
  return { text, failures };
}
