// @peculiar/x509 needs this polyfill loaded before it.
import "reflect-metadata";

import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";

/** A temporary CA and one server certificate, as files for Envoy and as text for clients. */
export interface CertificateAuthority {
  /** PEM of the CA, which clients must trust. */
  readonly ca: string;
  readonly files: { readonly ca: string; readonly certificate: string; readonly key: string };
  /** Base64 SHA-256 of the server's public key, for Chromium's allow list. */
  readonly publicKeyHash: string;
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const days = 24 * 60 * 60 * 1000;

/**
 * Creates a CA and a certificate (for servers and mTLS clients) for localhost, 127.0.0.1, *.localhost and `names`, valid for 30 days, and
 * writes `ca.pem`, `tls.pem` and `tls-key.pem` into `folder`. The CA's private key is not kept.
 */
export async function certificateAuthority(
  folder: string,
  names: readonly string[] = [],
): Promise<CertificateAuthority> {
  const notBefore = new Date(Date.now() - days);
  const notAfter = new Date(Date.now() + 30 * days);
  const caKeys = await keyPair();
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    name: "CN=envoy-mcp-auth temporary CA",
    keys: caKeys,
    notBefore,
    notAfter,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(caKeys.publicKey),
    ],
  });
  const keys = await keyPair();
  const all = new Set(["localhost", "127.0.0.1", "*.localhost", ...names]);
  const leaf = await x509.X509CertificateGenerator.create({
    subject: "CN=localhost",
    issuer: authority.subject,
    publicKey: keys.publicKey,
    signingKey: caKeys.privateKey,
    notBefore,
    notAfter,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
      new x509.SubjectAlternativeNameExtension([...all].map((value) => ({ type: nameType(value), value }))),
      await x509.AuthorityKeyIdentifierExtension.create(caKeys.publicKey),
    ],
  });
  const files = {
    ca: join(folder, "ca.pem"),
    certificate: join(folder, "tls.pem"),
    key: join(folder, "tls-key.pem"),
  };
  await mkdir(folder, { recursive: true });
  const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  const ca = `${authority.toString("pem")}\n`;
  await writeFile(files.ca, ca);
  await writeFile(files.certificate, `${leaf.toString("pem")}\n`);
  await writeFile(files.key, `${x509.PemConverter.encode(key, "PRIVATE KEY")}\n`, { mode: 0o600 });
  return {
    ca,
    files,
    publicKeyHash: createHash("sha256").update(Buffer.from(leaf.publicKey.rawData)).digest("base64"),
  };
}

/** SPIFFE identities are URIs. */
function nameType(name: string): "ip" | "url" | "dns" {
  if (isIP(name)) return "ip";
  return name.includes("://") ? "url" : "dns";
}

function keyPair() {
  return crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
}
