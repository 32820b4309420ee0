import { type AuditFormat, exportedEvent } from "../audit-trail/export-trail.ts";
import type { AuditFilter } from "../store/audit-events.ts";
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
  options: Omit<ListingOptions, "json"> & {
    readonly which: Omit<AuditFilter, "limit">;
    /** Default: json. */
    readonly format?: AuditFormat;
  },
): Promise<number> {
  const { which, out, drained, format = "json" } = options;
  return withStore(options, async ({ store, config }) => {
    let { after } = which;
    for (;;) {
      const events = await store.auditEvents({ ...which, after, limit: pageSize });
      out(events.map((event) => `${JSON.stringify(exportedEvent(event, format, config.issuer))}\n`).join(""));
      after = events.at(-1)?.id;
      if (events.length < pageSize || !(await drained())) return 0;
    }
  });
}
