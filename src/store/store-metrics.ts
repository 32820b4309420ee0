/** The metrics this room sets (F7.3); telemetry's own satisfy it. */
export interface StoreMetrics {
  readonly storeDuration: { startTimer(labels: { operation: string }): () => void };
  readonly storeRowsRejected: { inc(labels: { table: string }): void };
  readonly storeListenerUp: { set(value: number): void };
}
