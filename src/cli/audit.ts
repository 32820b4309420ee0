import { type AuditFilter, auditRecord } from "../store/audit-events.ts";
import { type CommandOptions, withStore } from "./command.ts";

/** Events per read. */
const pageSize = 1000;

/**
 * The command `audit export`: prints audit events as JSON lines, oldest first.
 * @param options.which filters; an event must match all of them
 * @returns the exit code
 */
export function runAudit(
  options: CommandOptions & { readonly which: Omit<AuditFilter, "limit"> },
): Promise<number> {
  const { which, out } = options;
  return withStore(options, async ({ store }) => {
    let { after } = which;
    for (;;) {
      const events = await store.auditEvents({ ...which, after, limit: pageSize });
      for (const event of events) out(`${JSON.stringify(auditRecord(event))}\n`);
      after = events.at(-1)?.id;
      if (events.length < pageSize) return 0;
    }
  });
}
