import { parentPort, workerData } from "node:worker_threads";

/*
 * A thread that sleeps from beat to beat, to a few microseconds, and says so each time. Timers of an event loop are good to a
 * millisecond, and one that spins instead takes the core from Envoy and the upstream, which share it with the load generator.
 */
const { gapMs } = workerData as { gapMs: number };
const cell = new Int32Array(new SharedArrayBuffer(4));
const startedAt = performance.now();
for (let beat = 0; ; beat++) {
  const due = startedAt + beat * gapMs;
  const left = due - performance.now();
  if (left > 0) Atomics.wait(cell, 0, 0, left);
  parentPort?.postMessage(performance.timeOrigin + due);
}
