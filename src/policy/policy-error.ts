/** A rule that cannot be compiled. `code` is stable; the message names the criterion and the fix. */
export class PolicyError extends Error {
  readonly code = "policy_invalid";
  override readonly name = "PolicyError";
}
