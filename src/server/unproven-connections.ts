/** Connections whose peer has not proven to be Envoy. */
export interface UnprovenConnections<Connection> {
  /** One has been opened. */
  add(connection: Connection): void;
  /** Its peer has proven to be Envoy, or it is closed. */
  remove(connection: Connection): void;
}

/**
 * Keeps room on a listener for Envoy: of those that have not proven to be Envoy's, `most` connections stay, and the oldest gives
 * way. Health checks of load balancers come from there, too; they connect again.
 *
 * @param most half of what the listener accepts.
 */
export function unprovenConnections<Connection>(
  most: number,
  end: (connection: Connection) => void,
): UnprovenConnections<Connection> {
  const known = new Set<Connection>();
  return {
    add(connection) {
      known.add(connection);
      if (known.size <= most) return;
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

/**
 * Runs `bind`, which makes a Unix socket, so that the file has these permissions from its first moment on: a mode set
 * afterwards would leave it open to everybody for a while.
 */
export async function withSocketMode<T>(mode: number, bind: () => Promise<T>): Promise<T> {
  const before = process.umask(0o777 & ~mode);
  try {
    return await bind();
  } finally {
    process.umask(before);
  }
}
