import { randomBytes } from "node:crypto";

/** Crockford's base 32: no letters that look like digits. */
const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const length = 16;

/** A one-time code of 80 random bits, in groups of four. */
export function newCode(): string {
  const characters = [...randomBytes(length)].map((byte) => alphabet[byte % alphabet.length]);
  return characters.join("").replace(/(.{4})(?=.)/g, "$1-");
}

/** A code as entered, in the form of `newCode`; undefined if it cannot be one. Ignores case, spaces and dashes. */
export function readCode(entered: string): string | undefined {
  const plain = entered.toUpperCase().replace(/[\s-]/g, "").replaceAll("O", "0").replace(/[IL]/g, "1");
  const isCode = plain.length === length && [...plain].every((character) => alphabet.includes(character));
  return isCode ? plain.replace(/(.{4})(?=.)/g, "$1-") : undefined;
}
