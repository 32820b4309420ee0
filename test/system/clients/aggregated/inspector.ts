import { join } from "node:path";
import type { Page } from "playwright-core";
import { inspectorLauncher, startInspector } from "../inspector.ts";
import { callsInWords, type Scenario, versions } from "../long/scenario.ts";

/** The MCP Inspector in Chromium: connects by OAuth with only the URL. */
export async function inspector(): Promise<Scenario> {
  return {
    name: "MCP Inspector in Chromium",
    version: await versions.npm("@modelcontextprotocol/inspector", "package.json"),
    steps: (world, worked) =>
      world.person.withPage(async (page) => {
        const { url, calls } = world.aggregated;
        const running = await startInspector({
          launcher: world.find(inspectorLauncher),
          url,
          home: join(world.folder, "inspector"),
          ca: world.stack.ca.files.ca,
        });
        try {
          await page.goto(running.address);
          // Its switch has no size during layout, so the event is sent to the element, not to coordinates.
          await page.getByRole("switch").last().dispatchEvent("click");
          await page.waitForURL((at) => at.origin === world.stack.openid.issuer);
          await world.person.passForms(page);
          await page.getByText("Connected", { exact: true }).first().waitFor();
          worked("sign-in by registration");
          await page.getByText("Tools", { exact: true }).first().click();
          for (const { tool, arguments: input, answer } of calls) {
            await page.getByText(tool, { exact: true }).first().click();
            for (const [name, value] of Object.entries(input)) await fill(page, name, String(value));
            await page.getByRole("button", { name: "Execute Tool" }).click();
            await page.getByText(answer).first().waitFor();
          }
          worked(callsInWords(world.aggregated));
          await page.getByText("keyed__choose", { exact: true }).first().click();
          await page.getByRole("button", { name: "Execute Tool" }).click();
          await page.getByText("Which colour?").first().waitFor();
          await fill(page, "value", "blue");
          await page.getByRole("button", { name: /^(submit|accept)/i }).click();
          await page.getByText("accept blue").first().waitFor();
          worked("form elicitation of keyed");
        } catch (error) {
          if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
          throw error;
        } finally {
          await running.close();
        }
      }),
  };
}

async function fill(page: Page, name: string, value: string): Promise<void> {
  await page.getByRole("textbox", { name: new RegExp(name, "i") }).fill(value);
}
