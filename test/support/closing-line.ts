import { writeSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/**
 * Vitest reporter whose last line is `N passed, M failed`, preceded by what failed and why, for readers who see only the end of a log. A
 * file that could not be loaded, a failed
 * hook and an unhandled error count as failed; a run without a test fails.
 */
export function closingLine(): Reporter {
  return { onTestRunEnd: count };
}

type Failure = { readonly message?: string };

function count(modules: readonly TestModule[], unhandledErrors: readonly Failure[]): void {
  let passed = 0;
  const failures: string[] = [];
  const failed = (what: string, errors: readonly Failure[]) => {
    // The end of the message is the most useful: it contains the tail of a log.
    const why = errors.map(({ message = "" }) => message.slice(0, 300) + message.slice(300).slice(-1_200));
    failures.push(`FAILED ${what}: ${why.join("\n")}`);
  };
  for (const error of unhandledErrors) failed("outside a test", [error]);
  for (const module of modules) {
    const file = module.relativeModuleId;
    for (const test of module.children.allTests()) {
      const { state, errors } = test.result();
      if (state === "passed") passed += 1;
      else if (state === "failed") failed(`${file} > ${test.fullName}`, errors ?? []);
    }
    for (const error of module.errors()) failed(file, [error]);
    for (const suite of module.children.allSuites()) {
      for (const error of suite.errors()) failed(`${file} > ${suite.fullName}`, [error]);
    }
  }
  process.once("exit", () => {
    writeSync(1, `\n${[...failures, `${passed} passed, ${failures.length} failed`].join("\n")}\n`);
    if (passed + failures.length === 0 || failures.length > 0) process.exitCode ||= 1;
  });
}
