import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Page } from "playwright-core";

/** Writes missing pictures, or all with `IMAGES=new`. */
const images = process.env.IMAGES_DIR ?? join(import.meta.dirname, "../../../docs/images");
const overwrite = process.env.IMAGES === "new";
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const variants = [
  { width: 1280, height: 900, colorScheme: "light", keep: true },
  { width: 390, height: 844, colorScheme: "dark", keep: true },
  { width: 1280, height: 900, colorScheme: "dark", keep: false },
  { width: 390, height: 844, colorScheme: "light", keep: false },
] as const;

/** A logo for pictures, SVG. */
export const logo = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40"><rect width="40" height="40" fill="#0b6e4f"/><path d="M10 28V12h6l4 9 4-9h6v16h-5V19l-4 9h-2l-4-9v9z" fill="#fff"/></svg>`;

/**
 * Checks a page on a phone and a desktop, light and dark, and keeps pictures of it in docs/images.
 * @returns its faults: violations of WCAG 2.2 AA, wider than the screen, without a title or one heading
 */
export async function faultsOf(name: string, page: Page): Promise<string[]> {
  await mkdir(images, { recursive: true });
  const faults: string[] = [];
  for (const { width, height, colorScheme, keep } of variants) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme });
    const where = `${width} ${colorScheme}`;
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
    if (wide) faults.push(`${where}: wider than the screen`);
    for (const violation of await violations(page)) faults.push(`${where}: ${violation}`);
    const file = join(images, `${name}-${width}-${colorScheme}.png`);
    if ((keep || process.env.IMAGES_DIR) && (overwrite || !existsSync(file)))
      await page.screenshot({ path: file, fullPage: true });
  }
  const unnamed = await page.evaluate(
    () => [...document.querySelectorAll("h1")].length !== 1 || document.title === "",
  );
  if (unnamed) faults.push("has no title, or not exactly one heading");
  return faults;
}

/** The pictures of a page that docs/images lacks. */
export function missingPictures(name: string): string[] {
  const files = variants
    .filter(({ keep }) => keep)
    .map(({ width, colorScheme }) => `${name}-${width}-${colorScheme}.png`);
  return files.filter((file) => !existsSync(join(images, file)));
}

/** Rules of WCAG 2.2 AA that a page violates. axe bypasses the page's policy, which allows no scripts. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  return page.evaluate<string[]>(`axe
    .run({ runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"] })
    .then(({ violations }) => violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html }) => html).join(" ")))`);
}
