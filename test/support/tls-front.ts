import { readFileSync } from "node:fs";
import { type AddressInfo, connect } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import type { CertificateAuthority } from "../../dev/demo/certificate-authority.ts";

/** TLS in front of a server on loopback, as a vendor's server has it. */
export interface TlsFront {
  readonly port: number;
  /** Connections with a completed handshake, by the name that the client asked for. */
  readonly names: readonly string[];
  /** From now on: this certificate; connections with another one are closed. */
  show(ca: CertificateAuthority): void;
  close(): Promise<void>;
}

/** Listens on loopback, and forwards to `target()`. Serves nothing until `show`. */
export async function tlsFront(target: () => number): Promise<TlsFront> {
  const names: string[] = [];
  const open = new Set<TLSSocket>();
  const server = createServer((client) => {
    names.push(String(client.servername));
    open.add(client);
    const upstream = connect(target(), "127.0.0.1");
    client.pipe(upstream).pipe(client);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.once("error", () => other.destroy());
      one.once("close", () => other.destroy());
    }
    client.once("close", () => open.delete(client));
  });
  // Of clients that do not accept the certificate.
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const closeAll = () => {
    for (const socket of open) socket.destroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    names,
    show({ files }) {
      server.setSecureContext({ cert: readFileSync(files.certificate), key: readFileSync(files.key) });
      closeAll();
    },
    async close() {
      closeAll();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
