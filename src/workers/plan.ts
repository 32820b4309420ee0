import { fork } from "node:child_process";
import { workerVariable } from "./messages.ts";

/** Value of `workerVariable` in the process that reads the routes file for a supervisor. */
export const planning = "plan";

/** What a supervisor needs to know of the routes file. */
export interface Plan {
  readonly workers: number;
  /** Unix socket of the private port, if it is one: all workers share it. */
  readonly adminSocket?: string;
  readonly socketMode: number;
  /** The longest refresh of an upstream token, ms. */
  readonly refreshMs: number;
  readonly logLevel: "trace" | "debug" | "info" | "warn" | "error";
}

type Answer = { readonly plan: Plan } | { readonly problem: string };

/**
 * Reads the routes file in another process with the same command line, since what reads it stays in memory.
 * @throws Error with the file's problems
 */
export function readPlan(): Promise<Plan> {
  const [, program = "", ...args] = process.argv;
  const child = fork(program, args, { env: { ...process.env, [workerVariable]: planning } });
  return new Promise((resolve, reject) => {
    child.once("message", (answer: Answer) => {
      if ("plan" in answer) resolve(answer.plan);
      else reject(new Error(answer.problem));
    });
    child.once("error", reject);
    // After the message, if there was one.
    child.once("close", (code, signal) =>
      reject(new Error(`reading the routes file ended without a result (${signal ?? `exit code ${code}`})`)),
    );
  });
}

/** In that process: sends what `read` returns, or why it fails. */
export async function answerPlan(read: () => Promise<Plan> | Plan): Promise<void> {
  const answer: Answer = await Promise.resolve()
    .then(read)
    .then(
      (plan) => ({ plan }),
      (error: unknown) => ({ problem: error instanceof Error ? error.message : String(error) }),
    );
  await new Promise<void>((resolve) => {
    if (process.send) process.send(answer, undefined, undefined, () => resolve());
    else resolve();
  });
  process.disconnect?.();
}
