/** What a process has counted and measured, as prom-client writes it as JSON. */
export type Snapshot = readonly Measured[];

interface Measured {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  /** How the values of several processes become one: `sum`, `first`, `min`, `max`. */
  readonly aggregator: string;
  readonly values: readonly {
    readonly value: number;
    readonly labels: Readonly<Record<string, string | number>>;
    /** Of a part of a histogram. */
    readonly metricName?: string;
  }[];
}

/** What a worker has taken from limits that all workers share: amount and allowance per minute, by bucket. */
export type Taken = Readonly<Record<string, readonly [amount: number, perMinute: number]>>;

/** From the supervisor to a worker. */
export type Order =
  | { readonly kind: "snapshot"; readonly request: number }
  | { readonly kind: "gathered"; readonly request: number; readonly snapshots: readonly Snapshot[] }
  | { readonly kind: "taken"; readonly taken: Taken }
  /** Drain and exit. `replaced`: another process serves the same addresses already. */
  | { readonly kind: "drain"; readonly replaced: boolean };

/** From a worker to the supervisor. */
export type Report =
  | { readonly kind: "ready" }
  /** It cannot start: the message says why, and what to do. */
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "gather"; readonly request: number }
  | { readonly kind: "snapshot"; readonly request: number; readonly snapshot: Snapshot }
  | { readonly kind: "taken"; readonly taken: Taken }
  /** The last one before it exits. */
  | { readonly kind: "last"; readonly snapshot: Snapshot };

/** The environment variable that makes a process a worker: `2/4`, and `2/4/replaces` if another one still serves its addresses. */
export const workerVariable = "ENVOY_MCP_AUTH_WORKER";
