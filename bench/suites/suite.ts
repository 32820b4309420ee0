import type { Table } from "../report/report.ts";
import type { Target } from "../report/target.ts";
import type { Cores } from "../world/cores.ts";
import type { World } from "../world/world.ts";

/** What every suite gets. */
export interface SuiteDeps {
  readonly world: World;
  readonly cores: Cores;
  /** `http://127.0.0.1:PORT` of the upstream's MCP server, which also answers `/token`. */
  readonly upstream: string;
  /** How many rounds of everything, at least. */
  readonly rounds: number;
  readonly progress: (line: string) => void;
}
/** What every suite comes to. */
export interface SuiteResult {
  readonly tables: readonly Table[];
  readonly targets: readonly Target[];
}
export type Suite = (deps: SuiteDeps) => Promise<SuiteResult>;
