import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CertificateAuthority, certificateAuthority } from "../../dev/demo/certificate-authority.ts";

/** Certificates of two unrelated CAs, in a folder that `close` removes. */
export async function certificates(): Promise<{
  readonly ours: CertificateAuthority;
  readonly unrelated: CertificateAuthority;
  close(): Promise<void>;
}> {
  const folder = await mkdtemp(join(tmpdir(), "certificates-"));
  return {
    ours: await certificateAuthority(join(folder, "ours"), ["envoy.internal", "sidecar.internal"]),
    unrelated: await certificateAuthority(join(folder, "strangers"), ["envoy.internal"]),
    close: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Certificate and key as text, for a client in this process. */
export function pair({ files }: CertificateAuthority): { cert: Buffer; key: Buffer } {
  return { cert: readFileSync(files.certificate), key: readFileSync(files.key) };
}
