/** OID of `timestamptz`. */
export const timestamptz = 1184;

const first = new Date("0001-01-01T00:00:00Z");
const last = new Date("9999-12-31T23:59:59.999Z");

/**
 * A time of the database as a valid date. `infinity`, and years that JavaScript does not have, become the first or the last year with
 * four digits: the gateway writes none of them, and one that somebody else has written must not fail what reads many rows.
 * @param parsed by the driver
 */
export function boundedTime(text: string, parsed: unknown): Date {
  if (parsed instanceof Date && parsed >= first && parsed <= last) return parsed;
  return /^-|BC$/.test(text) ? first : last;
}
