import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/** Resolves when a program of others, which does not say so, listens on the port. @throws Error after two minutes */
export async function listening(port: number): Promise<void> {
  for (let tries = 0; tries < 1200; tries += 1) {
    const socket = connect(port, "127.0.0.1");
    const isThere = await once(socket, "connect").then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (isThere) return;
    await delay(100);
  }
  throw new Error(`nobody listens at ${port}`);
}
