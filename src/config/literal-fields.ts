import { createFields, type Fields } from "./create-fields.ts";

/** Fields of what comes over the network: secrets are what they are, and nothing of this machine is read. */
export function literalFields(): Fields {
  return createFields({
    folder: "/",
    env: {},
    worldReadable: false,
    literal: true,
    referencedFiles: new Set(),
  });
}
