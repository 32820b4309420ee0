import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { createServer } from "node:tls";
import type { CertificateAuthority } from "../../dev/demo/certificate-authority.ts";

/** TLS in front of a server on loopback, as a vendor's server has it. */
export interface TlsFront {
  readonly port: number;
  /** Connections with a completed handshake, by the name that the client asked for. */
  readonly names: readonly string[];
  /** From now on: this certificate; connections with another one are closed. */
  show(certificate: Pick<CertificateAuthority, "files">): Promise<void>;
  close(): Promise<void>;
}

/** Listens on loopback, and forwards to the port `target()`. Serves nothing until `show`. */
export async function tlsFront(target: () => number): Promise<TlsFront> {
  const names: string[] = [];
  const open = new Set<Socket>();
  const server = createServer((client) => {
    names.push(String(client.servername));
    const upstream = connect(target(), "127.0.0.1");
    client.pipe(upstream).pipe(client);
    for (const [one, other] of [[client, upstream] as const, [upstream, client] as const]) {
      open.add(one);
      one.on("error", () => {});
      one.on("close", () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  // Of clients that do not accept the certificate.
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
    port: address.port,
    names,
    async show({ files }) {
      server.setSecureContext({ cert: readFileSync(files.certificate), key: readFileSync(files.key) });
      await closeAll();
    },
    async close() {
      server.close();
      await closeAll();
    },
  };
}
