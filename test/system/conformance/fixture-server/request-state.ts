import { randomBytes } from "node:crypto";
import { createRequestStateCodec } from "@modelcontextprotocol/server";

/** A tool's state between the rounds of one call, signed because the client carries it. */
export interface Remembered {
  readonly name?: string;
}

/** Signs and verifies the state with a key of this process. */
export const requestState = createRequestStateCodec<Remembered>({ key: randomBytes(32) });
