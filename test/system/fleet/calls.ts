import { setTimeout as delay } from "node:timers/promises";
import { type LoopbackFetch, loopbackFetch } from "../../../dev/demo/loopback-fetch.ts";
import type { FleetEnvoy } from "./fleet.ts";

/** A call that was not answered with 200. */
export interface Failure {
  readonly envoy: string;
  readonly status: number | string;
  readonly retryAfter: string | null;
  readonly body: string;
}

/** Calls of an MCP client through each Envoy, on connections that stay open. */
export interface Calls {
  /** One `ping`. @returns the status, and the number of the server that answered */
  call(envoy: FleetEnvoy): Promise<{ readonly status: number; readonly server?: number }>;
  /** Resolves when every Envoy routes to this server. */
  reach(server: number): Promise<void>;
  /** Calls through all Envoys until `work` is done. @returns the number of calls and all failures */
  during(work: () => Promise<void>): Promise<{ readonly calls: number; readonly failures: Failure[] }>;
  close(): Promise<void>;
}

/**
 * @param given.callers per Envoy
 */
export function callsThrough(given: {
  readonly envoys: readonly FleetEnvoy[];
  readonly ca: string;
  readonly url: string;
  readonly token: string;
  readonly callers: number;
}): Calls {
  const { envoys, ca, url, token, callers } = given;
  const clients = new Map<FleetEnvoy, LoopbackFetch>(
    envoys.map((envoy) => [envoy, loopbackFetch(ca, envoy.envoyPort, { allowH2: false })]),
  );

  async function send(envoy: FleetEnvoy) {
    const answer = await clients.get(envoy)?.fetch(url, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
      },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
    });
    const body = (await answer?.text()) ?? "";
    return { status: answer?.status ?? 0, retryAfter: answer?.headers.get("retry-after") ?? null, body };
  }

  async function call(envoy: FleetEnvoy) {
    const { status, body } = await send(envoy);
    return status === 200 ? { status, server: Number(JSON.parse(body).result.server) } : { status };
  }

  return {
    call,
    async reach(server) {
      await Promise.all(
        envoys.map(async (envoy) => {
          // Every worker of Envoy applies a change at a different time.
          const until = performance.now() + 60_000;
          for (let inARow = 0; inARow < 20; ) {
            if (performance.now() > until)
              throw new Error(`${envoy.name} does not route to server ${server}`);
            inARow = (await call(envoy)).server === server ? inARow + 1 : 0;
          }
        }),
      );
    },
    async during(work) {
      const failures: Failure[] = [];
      let calls = 0;
      let working = true;
      const loops = envoys.flatMap((envoy) =>
        Array.from({ length: callers }, async () => {
          while (working) {
            calls += 1;
            const { status, retryAfter, body } = await send(envoy).catch((error: Error) => ({
              status: String(error.cause ?? error),
              retryAfter: null,
              body: "",
            }));
            if (status !== 200) failures.push({ envoy: envoy.name, status, retryAfter, body });
            // A steady load that leaves the machine time for what it watches.
            await delay(20);
          }
        }),
      );
      try {
        await work();
      } finally {
        working = false;
        await Promise.all(loops);
      }
      return { calls, failures };
    },
    close: async () => {
      for (const client of clients.values()) await client.close();
    },
  };
}
