/**
 * Whether to run all of what must hold through a gateway (`make package`), or only one authorized call from sign-in to the upstream's
 * answer (`make test`): the code is the same as from source, and the rest of `make test` covers it.
 */
export const wholeSuite = (): boolean => process.env.WHOLE_SUITE === "1";
