import { type AuditFilter, auditRecord } from "../store/audit-events.ts";
import { withStore } from "./command.ts";
import type { ListingOptions } from "./listing.ts";

/** Events per read. */
const pageSize = 1000;

/**
 * The command `audit export`: prints audit events as JSON lines, oldest first.
 * @param options.which filters; an event must match all of them
 * @returns the exit code
 */
export function runAudit(
  options: Omit<ListingOptions, "json"> & { readonly which: Omit<AuditFilter, "limit"> },
): Promise<number> {
  const { which, out, drained } = options;
  return withStore(options, async ({ store }) => {
    let { after } = which;
    for (;;) {
      const events = await store.auditEvents({ ...which, after, limit: pageSize });
      out(events.map((event) => `${JSON.stringify(auditRecord(event))}\n`).join(""));
      after = events.at(-1)?.id;
      if (events.length < pageSize || !(await drained())) return 0;
    }
  });
}
