import { writeSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/**
 * Vitest reporter whose last words are `N passed, M failed`, alone on a line, after everything else. A file
 * that could not be loaded, a failed hook and an unhandled error count as failed; a run without a test fails.
 */
export function closingLine(): Reporter {
  return { onTestRunEnd: count };
}

function count(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
  let passed = 0;
  let failed = unhandledErrors.length;
  for (const module of modules) {
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      if (state === "passed") passed += 1;
      else if (state === "failed") failed += 1;
    }
    failed += module.errors().length;
    for (const suite of module.children.allSuites()) failed += suite.errors().length;
  }
  process.once("exit", () => {
    writeSync(1, `\n${passed} passed, ${failed} failed\n`);
    if (passed + failed === 0 || failed > 0) process.exitCode ||= 1;
  });
}
