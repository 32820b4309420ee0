import { statfs } from "node:fs/promises";
import { planLogSettings } from "../../test/support/plan-log.ts";
import { type PostgresServer, startPostgres } from "../../test/support/start-postgres.ts";

/** Bytes in the database per connection with all that belongs to it: measured, without the ciphertexts and of them. */
const bytesPerConnection = { plain: 2_700, ciphertexts: 4_250 };
/** The write-ahead log, and room to sort the largest index. */
const bytesBesides = 6 * 2 ** 30;

/** @param share of the real length of ciphertexts @throws Error that says how much space is needed */
export async function requireSpace(folder: string, connections: number, share: number): Promise<void> {
  const { plain, ciphertexts } = bytesPerConnection;
  const needed = connections * (plain + ciphertexts * share) + bytesBesides;
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(0)} GiB`;
  if (free < needed)
    throw new Error(
      `${connections.toLocaleString("en")} connections need ${gib(needed)} on disk, and ${folder} has ${gib(free)} left: free some, name another folder (SCALE_DIR=/mnt/disk), ask for fewer connections (CONNECTIONS=1000000), or for shorter ciphertexts (CIPHERTEXTS=0.5)`,
    );
}

/** A Postgres with the durability of a production server, and room to load and to sort. Its data is removed however this process ends. */
export function startLargeServer(folder: string): Promise<PostgresServer> {
  return startPostgres(undefined, {
    parent: folder,
    settings: {
      ...planLogSettings,
      fsync: "on",
      full_page_writes: "on",
      // Loading a table that the same transaction has emptied then needs no write-ahead log.
      wal_level: "minimal",
      max_wal_senders: "0",
      max_wal_size: "4GB",
      shared_buffers: "1GB",
      maintenance_work_mem: "1GB",
      effective_cache_size: "4GB",
      // As on an SSD.
      random_page_cost: "1.1",
    },
  });
}
