/**
 * Kleene's three values, ordered so that `and` is the minimum and `or` the maximum: 0 no, 1 not known yet, 2 yes.
 * `not known` arises only where a question leaves facts open (`mayReach`); a request's own facts are all known.
 */
export type Verdict = 0 | 1 | 2;
