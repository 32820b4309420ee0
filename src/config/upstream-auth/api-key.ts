import { z } from "zod";
import { staticKind } from "./kind.ts";

/** A key in a header, the same for every caller. */
export const apiKey = staticKind({
  schema: ({ header, headerValue }) => z.strictObject({ header, value: headerValue }),
  build: ({ header, value }) => ({
    headers: [[header.toLowerCase(), value]],
  }),
});
