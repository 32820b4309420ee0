/**
 * Answers one call of one method, bytes to bytes. Calls `answer` exactly once.
 *
 * @param deadline Unix milliseconds; Infinity: none.
 * @throws RangeError at once, when the message cannot be decoded.
 */
export type UnaryHandler = (message: Buffer, deadline: number, answer: (message: Buffer) => void) => void;
