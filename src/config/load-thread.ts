import { parentPort, workerData } from "node:worker_threads";
import { loadParsed } from "./load-config.ts";
import type { LoadedOnThread, LoadTask } from "./load-on-thread.ts";

// The thread of `loadOnThread`; imported by nothing.
const { file, env, options }: LoadTask = workerData;
const { loaded, files, parsed } = loadParsed(file, env, options);
const found: LoadedOnThread = { problems: loaded.problems, files, ...(parsed && { parsed }) };
parentPort?.postMessage(found);
