import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer } from "node:tls";
import { certificateAuthority } from "../../../../dev/demo/certificate-authority.ts";

/** TLS in front of a plain server, as a server outside the cluster has it; on loopback, whatever its name. */
export interface Vendor {
  readonly host: string;
  readonly port: number;
  /** PEM: of its certificate, and of one for another name. */
  readonly trusted: string;
  /** Passes connections on to this port. */
  forward(port: number): void;
  /** Closes connections, and shows another certificate on new ones. */
  present(which: "its own" | "one for another name" | "one of an unknown CA"): Promise<void>;
  close(): Promise<void>;
}

/** Starts it. @param host its name */
export async function vendor(host: string): Promise<Vendor> {
  const folder = await mkdtemp(join(tmpdir(), "vendor-"));
  const names = {
    "its own": host,
    "one for another name": `other-${host}`,
    "one of an unknown CA": host,
  } as const;
  const certificates: Record<string, { ca: string; cert: Buffer; key: Buffer }> = {};
  for (const [which, name] of Object.entries(names)) {
    const { ca, files } = await certificateAuthority(join(folder, which), [name]);
    certificates[which] = {
      ca,
      cert: await readFile(files.certificate),
      key: await readFile(files.key),
    };
  }
  let target = 0;
  const open = new Set<Socket>();
  const server = createServer({ ...certificates["its own"], ca: undefined }, (near) => {
    const far = connect({ host: "127.0.0.1", port: target });
    near.pipe(far).pipe(near);
    for (const [one, other] of [[near, far] as const, [far, near] as const]) {
      open.add(one);
      one.on("error", () => {});
      one.on("close", () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const closeAll = async () => {
    const closed = [...open].map((socket) => once(socket, "close"));
    for (const socket of open) socket.destroy();
    await Promise.all(closed);
  };
  return {
    host,
    port: address.port,
    trusted: `${certificates["its own"]?.ca}${certificates["one for another name"]?.ca}`,
    forward(port) {
      target = port;
    },
    async present(which) {
      const { cert, key } = certificates[which] ?? {};
      server.setSecureContext({ cert, key });
      await closeAll();
    },
    async close() {
      server.close();
      await closeAll();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
