import { staticKind } from "./kind.ts";

/** The upstream needs no credential. */
export const none = staticKind({
  schema: ({ f }) => f.section({}),
  build: () => ({ headers: [] }),
});
