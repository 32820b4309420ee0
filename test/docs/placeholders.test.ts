import { readdirSync, readFileSync } from "node:fs";
import { join, matchesGlob } from "node:path";
import { expect, it } from "vitest";

const root = join(import.meta.dirname, "../..");
const read = (file: string) => readFileSync(join(root, file), "utf8");
const placeholder = "OWNER";
/** In a URL, in an address, or alone as code: neither SQL nor the argument of a command. */
const standsIn = new RegExp(`[/@]${placeholder}\\b|\\b${placeholder}[/@]|\`${placeholder}\``);
const notTracked = read(".gitignore")
  .split("\n")
  .filter(Boolean)
  .map((pattern) => pattern.replace(/\/$/, ""));
/** A pattern with a slash in front names something in the root only. */
const isIgnored = (folder: string, name: string) =>
  notTracked.some(
    (pattern) => matchesGlob(folder === "" ? `/${name}` : name, pattern) || matchesGlob(name, pattern),
  );

/** Every file that Git tracks or would track; a release archive has no Git to ask. */
function tracked(folder = ""): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === ".git" || isIgnored(folder, entry.name)) return [];
    const path = join(folder, entry.name);
    return entry.isDirectory() ? tracked(path) : [path];
  });
}

it.each([
  [`https://github.com/${placeholder}/envoy-mcp-auth`, true],
  [`security@${placeholder}`, true],
  [`Write to \`${placeholder}\`.`, true],
  [`ALTER TABLE grants ${placeholder} TO sidecar`, false],
  [`connections revoke --user ${placeholder} --route ID`, false],
  [`/${placeholder}SHIP`, false],
])("%j contains the placeholder: %j", (text, expected) => {
  expect(standsIn.test(text)).toBe(expected);
});

it("CONTRIBUTING.md lists exactly the files that contain the placeholder", () => {
  const files = tracked();
  expect(files).toEqual(expect.arrayContaining([".github/workflows/ci.yml", "docs/README.md", "LICENSE"]));
  const containing = files.filter((file) => file !== "CONTRIBUTING.md" && standsIn.test(read(file)));
  const [, section = ""] = read("CONTRIBUTING.md").split("\n## Placeholders\n");
  const rows = section.split("\n").filter((row) => row.startsWith(`| \`${placeholder}\` |`));
  const listed = rows.flatMap((row) =>
    [...(row.split("|")[2] ?? "").matchAll(/`([^`]+)`/g)].map(([, file]) => file ?? ""),
  );
  expect(listed.toSorted()).toEqual(containing.toSorted());
});
