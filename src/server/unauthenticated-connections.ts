/** Connections whose peer has not proven that it is Envoy. */
export interface UnauthenticatedConnections<Connection> {
  /** A connection was opened. */
  add(connection: Connection): void;
  /** The peer has proven that it is Envoy, or the connection is closed. */
  remove(connection: Connection): void;
}

/**
 * Reserves connections of a listener for Envoy: beyond `max` unproven connections, the oldest is closed. Health checks of load balancers
 * are affected as well; they reconnect.
 *
 * @param max half of the listener's limit.
 */
export function unauthenticatedConnections<Connection>(
  max: number,
  end: (connection: Connection) => void,
): UnauthenticatedConnections<Connection> {
  const known = new Set<Connection>();
  return {
    add(connection) {
      known.add(connection);
      if (known.size <= max) return;
      const [oldest] = known;
      if (oldest === undefined) return;
      known.delete(oldest);
      end(oldest);
    },
    remove: (connection) => {
      known.delete(connection);
    },
  };
}
