import { staticKind } from "./kind.ts";

/** The upstream requires no credential. */
export const none = staticKind({
  schema: ({ f }) => f.section({}),
  build: () => ({ headers: [] }),
});
