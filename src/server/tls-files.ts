import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { thisUser, UnusableSetting } from "../util/unusable-setting.ts";

/** PEM files of a TLS listener. */
export interface TlsFiles {
  /** With its chain. */
  readonly certificate: string;
  readonly key: string;
  /** Authorities of the certificates that clients must present. */
  readonly clientCa?: string;
}

/**
 * Reads a listener's files and uses them once: otherwise they would fail only when a client connects.
 * @param setting the section of the routes file that names them
 * @throws UnusableSetting that names the setting and the fix
 */
export function readTlsFiles(setting: string, files: TlsFiles) {
  const read = (key: string, file: string) => {
    try {
      return readFileSync(file);
    } catch (error) {
      const fix = `write the PEM file, readable for ${thisUser()}`;
      throw new UnusableSetting(`${setting}.${key}`, `cannot read ${file}`, error, fix);
    }
  };
  const cert = read("certificate", files.certificate);
  const key = read("key", files.key);
  const ca = files.clientCa === undefined ? undefined : read("client_ca", files.clientCa);
  try {
    createSecureContext({ ca, cert, key });
  } catch (error) {
    const names = [files.certificate, files.key, files.clientCa].filter((name) => name !== undefined);
    throw new UnusableSetting(
      setting,
      `cannot use ${names.join(", ")}`,
      error,
      "all must be PEM, and the key must be the certificate's",
    );
  }
  return { cert, key, ca };
}
