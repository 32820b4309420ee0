import { it } from "vitest";
import { programFile } from "../../dev/demo/sidecar.ts";
import { runQuickstart } from "./quickstart-page.ts";

it("docs/quickstart.md works as written", async () => {
  await runQuickstart([process.execPath, programFile]);
}, 180_000);
