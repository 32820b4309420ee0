import { once } from "node:events";
import { copyFile, mkdtemp, rename, rm } from "node:fs/promises";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, expect, it } from "vitest";
import { certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { listen } from "../../src/server/http/listener.ts";
import { createApp } from "../../src/server/http/public-endpoint.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tls-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Fingerprint of the certificate that the listener presents, and whether `ca` signed it. */
async function presented(port: number, ca: string): Promise<[fingerprint: string, trusted: boolean]> {
  const socket = connect({ host: "127.0.0.1", port, ca, servername: "localhost", rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const found: [string, boolean] = [socket.getPeerCertificate().fingerprint256, socket.authorized];
  socket.destroy();
  return found;
}

it("a TLS listener presents a renewed certificate without a restart, and keeps the old one while the new one is incomplete", async () => {
  const [old, renewed] = [
    await certificateAuthority(join(folder, "old")),
    await certificateAuthority(join(folder, "renewed")),
  ];
  const [certificate, key] = [join(folder, "tls.crt"), join(folder, "tls.key")];
  const put = async (from: string, to: string) => {
    await copyFile(from, `${to}.new`);
    await rename(`${to}.new`, to);
  };
  await put(old.files.certificate, certificate);
  await put(old.files.key, key);
  const server = await listen(createApp(createLogger({ level: "silent" })), "127.0.0.1:0", {
    config: Object({ check: { maxHeaderBytes: 16_384 }, listen: { socketMode: 0o660 } }),
    setting: "listen.http",
    metrics: createMetrics(),
    tls: { certificate, key },
  });
  try {
    const port = Number(server.address.split(":")[1]);
    const [before, trusted] = await presented(port, old.ca);
    expect(trusted).toBe(true);
    // Only half of it: key and certificate do not match.
    await put(renewed.files.certificate, certificate);
    expect(await presented(port, old.ca)).toEqual([before, true]);
    await put(renewed.files.key, key);
    await expect.poll(async () => (await presented(port, renewed.ca))[1]).toBe(true);
  } finally {
    await server.close(0);
  }
});

it("a connection without a TLS handshake is closed after ten seconds, and does not keep the listener from closing", async () => {
  const authority = await certificateAuthority(join(folder, "silent"));
  const server = await listen(createApp(createLogger({ level: "silent" })), "127.0.0.1:0", {
    config: Object({ check: { maxHeaderBytes: 16_384 }, listen: { socketMode: 0o660 } }),
    setting: "listen.http",
    metrics: createMetrics(),
    tls: authority.files,
  });
  const port = Number(server.address.split(":")[1]);
  const silent = async () => {
    const socket = connectTcp(port, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    return socket;
  };
  await once(await silent(), "close");
  const last = await silent();
  await Promise.all([server.close(0), once(last, "close")]);
});
