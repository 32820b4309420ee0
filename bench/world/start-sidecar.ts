import { join } from "node:path";
import { type Process, startProcess } from "./start-process.ts";
import type { World } from "./world.ts";

/** A running `envoy-mcp-auth serve` and where it listens. */
export interface RunningSidecar extends Process {
  readonly grpc: string;
  readonly admin: string;
}

const root = join(import.meta.dirname, "../..");

/** @param options.program default: the sources */
export async function startSidecar(options: {
  readonly world: Pick<World, "folder" | "env">;
  readonly file: string;
  readonly core: number | undefined;
  readonly nodeFlags?: readonly string[];
  readonly program?: string;
}): Promise<RunningSidecar> {
  const { world, file, core, nodeFlags = [], program = "src/main.ts" } = options;
  const started = await startProcess({
    name: "sidecar",
    command: [process.execPath, ...nodeFlags, program, "serve", "--config", file],
    cwd: root,
    folder: world.folder,
    env: world.env,
    core,
    ready: /"msg":"ready"/,
  });
  const [, grpc = "", admin = ""] = /"grpc":"([^"]+)".*"admin":"([^"]+)"/.exec(started.log()) ?? [];
  return { ...started, grpc, admin };
}
