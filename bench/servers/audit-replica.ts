import { setTimeout as delay } from "node:timers/promises";
import { keepAuditRecord } from "../../src/audit-trail/audit-record.ts";
import { createSigningKeys } from "../../src/external-tokens/signing-keys.ts";
import { loadKeyEncryptionKeys } from "../../src/store/encryption/load-keys.ts";
import { openStore } from "../../src/store/open-store.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { percentile } from "../load/percentile.ts";

/*
 * What a replica does for the audit record, in a process of its own: `writer RATE SECONDS` writes so many events per second, each in a
 * transaction of its own, and sends its figures; `keeper` chains them until it is stopped.
 */
const [role, rate = "0", seconds = "0"] = process.argv.slice(2);
const logger = createLogger({ level: "warn" });
const store = await openStore({
  url: process.env.DATABASE_URL ?? "",
  dir: "/nonexistent",
  keys: await loadKeyEncryptionKeys([{ kid: "bench", env: "BENCH_KEY" }], { env: process.env }),
  logger: createLogger({ level: "silent" }),
});
process.on("disconnect", () => process.exit());
if (role === "writer") process.send?.(await write(Number(rate), Number(seconds)));
else await keep();

async function keep(): Promise<void> {
  const record = keepAuditRecord({
    ...{ store, logger, metrics: createMetrics(), fetch, issuer: "https://auth.test", retentionDays: 365 },
    keys: await createSigningKeys({ store, logger }),
  });
  process.send?.("ready");
  process.on("SIGTERM", async () => {
    await record.close();
    process.exit();
  });
}

/** Begins each event on time, whether those before it are written or not; at most 500 wait. */
async function write(perSecond: number, forSeconds: number) {
  const took: number[] = [];
  const waiting = new Set<Promise<void>>();
  const startedAt = performance.now();
  let errors = 0;
  for (let begun = 0; begun < perSecond * forSeconds; ) {
    const due = Math.min(perSecond * forSeconds, ((performance.now() - startedAt) * perSecond) / 1_000);
    for (; begun < due && waiting.size < 500; begun++) {
      const beganAt = performance.now();
      const written = event(begun)
        .then(() => void took.push(performance.now() - beganAt))
        .catch(() => void errors++)
        .finally(() => waiting.delete(written));
      waiting.add(written);
    }
    await delay(5);
  }
  await Promise.all(waiting);
  const ms = performance.now() - startedAt;
  return {
    ...{ written: took.length, errors, perSecond: (took.length / ms) * 1_000 },
    ...{ p50: percentile(took, 0.5), p99: percentile(took, 0.99), longest: percentile(took, 1) },
    cpuMs: process.cpuUsage().user / 1_000 + process.cpuUsage().system / 1_000,
  };
}

/** As long as most events are: one of a background refresh. */
function event(n: number) {
  return store.audit({
    action: "upstream_token.refreshed",
    userId: `company/person-${n % 50_000}`,
    routeId: `route-${n % 100}`,
    upstream: `https://upstream${n % 100}.example.com/mcp`,
    issuer: `https://login${n % 100}.example.com`,
  });
}
