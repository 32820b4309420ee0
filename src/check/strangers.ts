/** Connections whose peer has not proven to be Envoy. */
export interface Strangers<Connection> {
  /** Somebody has connected. */
  came(connection: Connection): void;
  /** The peer is Envoy, or it has gone. */
  forget(connection: Connection): void;
}

/**
 * Keeps room on a listener for Envoy: of those that have not proven to be Envoy's, `most` connections stay, and the oldest gives
 * way. Health checks of load balancers come from there, too; they connect again.
 *
 * @param most half of what the listener accepts.
 */
export function strangers<Connection>(
  most: number,
  end: (connection: Connection) => void,
): Strangers<Connection> {
  const known = new Set<Connection>();
  return {
    came(connection) {
      known.add(connection);
      if (known.size <= most) return;
      const [oldest] = known;
      if (oldest === undefined) return;
      known.delete(oldest);
      end(oldest);
    },
    forget: (connection) => {
      known.delete(connection);
    },
  };
}
