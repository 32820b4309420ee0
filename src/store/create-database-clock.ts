/**
 * Short lifetimes are kept on the database's clock, so that a replica whose own clock is off neither steals a lease nor finds
 * a fresh code expired. Offsets below two seconds are taken for measuring error, which keeps dates exact in the usual case.
 */
export interface DatabaseClock {
  toDatabase(date: Date): Date;
  fromDatabase(date: Date): Date;
  /** Takes in what the database said of the time, between two local readings (ms since the epoch). */
  measure(databaseTime: Date, sentAt: number, receivedAt: number): void;
}

const negligibleMs = 2_000;

/** A clock that agrees with the database until `measure` says otherwise. */
export function createDatabaseClock(): DatabaseClock {
  let offsetMs = 0;
  return {
    toDatabase: (date) => (offsetMs === 0 ? date : new Date(date.getTime() + offsetMs)),
    fromDatabase: (date) => (offsetMs === 0 ? date : new Date(date.getTime() - offsetMs)),
    measure(databaseTime, sentAt, receivedAt) {
      const measured = Math.round(databaseTime.getTime() - (sentAt + receivedAt) / 2);
      offsetMs = Math.abs(measured) < negligibleMs + (receivedAt - sentAt) / 2 ? 0 : measured;
    },
  };
}
