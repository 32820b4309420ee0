import { randomBytes } from "node:crypto";
import { createRequestStateCodec } from "@modelcontextprotocol/server";

/** What a tool remembers between the rounds of one call, signed: it travels by the client. */
export interface Remembered {
  readonly name?: string;
}

/** Signs and verifies what travels, with a key of this process. */
export const requestState = createRequestStateCodec<Remembered>({ key: randomBytes(32) });
