import { z } from "zod";
import { credentialHeaderFault } from "../header-names.ts";
import { staticKind } from "./kind.ts";

/** Several headers, the same for every caller. */
export const headers = staticKind({
  schema: ({ f, headerValue, headerFix }) =>
    z.record(z.string(), headerValue).superRefine((given, issues) => {
      const names = Object.keys(given);
      // Of a stored route, they may have been cleared.
      if (names.length === 0 && !f.literal)
        issues.addIssue({
          code: "custom",
          message: "headers is empty",
          params: { fix: "name at least one header, or write upstream_auth: none" },
        });
      for (const [index, name] of names.entries()) {
        const twin = names.slice(0, index).find((one) => one.toLowerCase() === name.toLowerCase());
        const message =
          credentialHeaderFault(name, f.headerRules) ?? (twin && `${name} and ${twin} are one header`);
        if (message) issues.addIssue({ code: "custom", path: [name], message, params: { fix: headerFix } });
      }
    }),
  build: (given) => ({
    headers: Object.entries(given).map(([name, value]) => [name.toLowerCase(), value]),
  }),
});
