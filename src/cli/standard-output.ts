import { once } from "node:events";
import type { Writable } from "node:stream";
import type { ListingOptions } from "./listing.ts";

/**
 * Standard output for commands. If its reader goes away (`| head`), further output is dropped: a listing then ends early, and a command
 * that changes something finishes.
 */
export function standardOutput(stream: Writable): Pick<ListingOptions, "out" | "drained"> {
  let open = true;
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE" && error.code !== "ECONNRESET") throw error;
    open = false;
  });
  return {
    out(text) {
      if (open) stream.write(text);
    },
    async drained() {
      // Rejects when the reader goes away in the meantime.
      if (open && stream.writableNeedDrain) await once(stream, "drain").catch(() => undefined);
      return open;
    },
  };
}
