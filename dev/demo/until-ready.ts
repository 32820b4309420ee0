import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { Supervised } from "./supervise.ts";

/**
 * Waits until a child process is ready; if it is not, stops it.
 * @param name for the error
 * @param logFile of the child
 * @param ready asked every 50 ms; must not throw
 * @throws Error with the end of its log if it exits or is not ready within 60 s
 */
export async function untilReady(
  child: Pick<Supervised, "exited" | "stop">,
  name: string,
  logFile: string,
  ready: () => boolean | Promise<boolean>,
): Promise<void> {
  let ended = false;
  void child.exited.then(() => {
    ended = true;
  });
  for (const until = Date.now() + 60_000; !(await ready()); await delay(50)) {
    if (!ended && Date.now() < until) continue;
    await child.stop();
    const tail = readFileSync(logFile, "utf8").trim().split("\n").slice(-15).join("\n");
    throw new Error(
      `${name} ${ended ? "exited" : "was not ready in 60 s"}. The end of its log, ${logFile}:\n${tail}`,
    );
  }
}

/** Whether a URL answers with a status of 200 to 299. */
export async function answersOk(url: string): Promise<boolean> {
  return fetch(url).then(
    ({ ok }) => ok,
    () => false,
  );
}
