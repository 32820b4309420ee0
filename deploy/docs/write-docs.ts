import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { program } from "../../src/cli.ts";
import { cliReference } from "./cli-reference.ts";

// The documents that are made from the code: `make docs`.
writeFileSync(join(import.meta.dirname, "../../docs/cli.md"), cliReference(program));
