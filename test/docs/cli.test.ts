import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { cliReference } from "../../dev/docs/cli-reference.ts";
import { program } from "../../src/cli/program.ts";

it("docs/cli.md matches the command line (make docs writes it)", () => {
  const written = readFileSync(join(import.meta.dirname, "../../docs/cli.md"), "utf8");
  expect(written).toBe(cliReference(program));
});
