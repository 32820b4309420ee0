import { parentPort, workerData } from "node:worker_threads";
import { loadConfig } from "./load-config.ts";
import type { LoadedOnThread, LoadTask } from "./load-on-thread.ts";

// The thread of `loadOnThread`; imported by nothing.
const { file, env, options }: LoadTask = workerData;
const loaded = loadConfig(file, env, options);
const { problems, files } = loaded;
const found: LoadedOnThread = { problems, files, ...(loaded.ok && { parsed: loaded.parsed }) };
parentPort?.postMessage(found);
