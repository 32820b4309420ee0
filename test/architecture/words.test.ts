import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";

const root = resolve(import.meta.dirname, "../..");

/** Coinages of earlier versions that no newcomer can guess; docs/glossary.md has the terms. Words with an ordinary meaning are left to readers. */
const coinages =
  /\b(?:departures|renewers?|hearsay|untold|askers?|outward|patience|(?<!round[- ])trips?|in vain|anew|for ever|metadata are)\b/i;

/** What leaves the repository: sources with the metrics and the command line, and all documents. */
const files = execFileSync("git", ["ls-files", "src", "docs", "deploy", "envoy", "examples", "*.md"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((file) => /\.(?:ts|md|ya?ml|json|tpl)$/.test(file) && !file.endsWith("package-lock.json"));

it("no text uses a coinage of an earlier version", () => {
  expect(files.length).toBeGreaterThan(200);
  const found = files.flatMap((file) =>
    readFileSync(join(root, file), "utf8")
      .split("\n")
      .flatMap((line, index) => (coinages.test(line) ? [`${file}:${index + 1}: ${line.trim()}`] : [])),
  );
  expect(found).toEqual([]);
});

it("no file names a requirement code", () => {
  const all = execFileSync("git", ["ls-files"], { cwd: root, encoding: "utf8" })
    .split("\n")
    .filter((file) => /\.(?:ts|md|ya?ml|json|sh)$|Makefile$|Dockerfile$/.test(file) && !/lock/.test(file));
  const code = /\bF\d{1,2}\.\d{1,2}\b/;
  expect(all.filter((file) => code.test(readFileSync(join(root, file), "utf8")))).toEqual([]);
});

it("would notice them", () => {
  expect(["a consent trip", "renewer", "wait In Vain"].every((text) => coinages.test(text))).toBe(true);
  expect(coinages.test("one round trip")).toBe(false);
});
