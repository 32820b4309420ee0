/** A stored ciphertext that must not be used: moved to another row, damaged, or sealed by a key we do not have. */
export class DecryptionFailed extends Error {
  readonly code: "ciphertext_moved" | "ciphertext_damaged" | "encryption_key_unknown";

  constructor(code: DecryptionFailed["code"], table: string, cause?: unknown) {
    super(`cannot decrypt a row of ${table}: ${code}`, { cause });
    this.name = "DecryptionFailed";
    this.code = code;
  }
}
