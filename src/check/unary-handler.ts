import type { PeerProof } from "../config/peer-authentication.ts";

/**
 * Answers one call of one method, bytes to bytes. Calls `answer` exactly once.
 *
 * @param deadline Unix milliseconds; Infinity: none.
 * @param peer what the caller has shown in the call's metadata; never `wrong`.
 * @param onProven to be called when the message proves what the metadata does not: that the caller is Envoy.
 * @throws RangeError at once, when the message cannot be decoded.
 * @throws Unauthenticated at once, when neither metadata nor message prove that the caller is Envoy.
 */
export type UnaryHandler = (
  message: Buffer,
  deadline: number,
  answer: (message: Buffer) => void,
  peer: PeerProof,
  onProven: () => void,
) => void;

/** The caller has not proven that it is Envoy. It learns nothing else. */
export class Unauthenticated extends Error {
  constructor() {
    super("the caller has not proven that it is Envoy");
    this.name = "Unauthenticated";
  }
}
