import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { certificateAuthority } from "../../../../dev/demo/certificate-authority.ts";
import { tlsFront } from "../../../support/tls-front.ts";

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
  const certificate = (name: string, ca: string) => certificateAuthority(join(folder, ca), [name]);
  const certificates = {
    "its own": await certificate(host, "own"),
    "one for another name": await certificate(`other-${host}`, "other"),
    "one of an unknown CA": await certificate(host, "unknown"),
  };
  let target = 0;
  const front = await tlsFront(() => target);
  await front.show(certificates["its own"]);
  return {
    host,
    port: front.port,
    trusted: `${certificates["its own"].ca}${certificates["one for another name"].ca}`,
    forward(port) {
      target = port;
    },
    present: (which) => front.show(certificates[which]),
    async close() {
      await front.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
