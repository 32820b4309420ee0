import type { Notifications } from "./store.ts";

/** `Notifications` with what `openStore` needs to start and stop it. */
export interface Listener extends Notifications {
  /** Resolves when notifications flow, or `waitMs` have passed; `deaf`: the connection is up, yet nothing arrives on it. */
  ready(waitMs: number): Promise<"hearing" | "deaf" | "away">;
  close(): Promise<void>;
}
