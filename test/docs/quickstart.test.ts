import { join } from "node:path";
import { it } from "vitest";
import { runQuickstart } from "./quickstart-page.ts";

it("docs/quickstart.md works as written", async () => {
  await runQuickstart([process.execPath, join(import.meta.dirname, "../../src/main.ts")]);
}, 180_000);
