import type { GrpcConnection } from "../load/grpc-connection.ts";
import type { Call } from "../load/load.ts";
import { checkMessage } from "./check-message.ts";
import type { Connection } from "./world.ts";

/** An OK status: field 1, empty. */
const ok = Buffer.from([0x0a, 0]);

/** A check of one connection, whose response must allow it with that connection's upstream token. */
export interface PreparedCheck {
  readonly message: Buffer;
  readonly upstreamToken: Buffer;
}

export function prepareCheck(connection: Connection): PreparedCheck {
  return {
    message: checkMessage(connection),
    upstreamToken: Buffer.from(`Bearer ${connection.upstreamToken}`),
  };
}

/** Asks `next()` by turns over the given connections. */
export function checkCall(connections: readonly GrpcConnection[], next: () => PreparedCheck): Call {
  let turn = 0;
  return (done) => {
    const check = next();
    const connection = connections[turn++ % connections.length];
    connection?.call(check.message, ({ message, ms }) => done(isAllowed(check, message), ms));
  };
}

/** Whether the response allows the request with the connection's upstream token; undefined is an error instead of a response. */
export function isAllowed({ upstreamToken }: PreparedCheck, message: Buffer | undefined): boolean {
  return message?.subarray(0, 2).equals(ok) === true && message.includes(upstreamToken);
}
