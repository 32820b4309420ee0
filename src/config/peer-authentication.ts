import { timingSafeEqual } from "node:crypto";
import type { Config } from "./config.ts";
import { isTcp } from "./listener-faults.ts";

/** The HTTP header, and the key of gRPC metadata, in which Envoy shows `listen.envoy_secret`. */
export const envoySecretHeader = "x-mcp-auth-secret";
/** Where Envoy's configuration cannot add gRPC metadata: the ext_authz context extension with the same value. */
export const envoySecretExtension = "envoy_secret";

/** What a gRPC call's metadata (`Metadata` of grpc-js) holds under that key. */
export function shownBy(metadata: { get(key: string): readonly unknown[] }): string | string[] | undefined {
  const [one, ...more] = metadata.get(envoySecretHeader).map(String);
  return one === undefined || more.length === 0 ? one : [one, ...more];
}

/** What a peer has shown: a right secret (or none is asked for), none, or a wrong one. */
export type PeerProof = "proven" | "missing" | "wrong";

/** Whether the peer of a listener is Envoy. */
export interface PeerAuthentication {
  /** @param shown the header's value; several are wrong. Takes the same time for every wrong value of one length. */
  judge(shown: string | readonly string[] | undefined): PeerProof;
  /** To be called when a call is turned away for its proof: counts, and logs at a bounded rate. */
  refused(): void;
}

/**
 * For one listener. A Unix socket's permissions are proof enough, and so is a client certificate where no secret is set.
 *
 * @param address `host:port` or `unix:/path`.
 */
export function peerAuthentication(
  address: string,
  { envoySecrets }: Pick<Config["listen"], "envoySecrets">,
  refused: () => void = () => {},
): PeerAuthentication {
  if (!isTcp(address) || envoySecrets.length === 0) return { judge: () => "proven", refused };
  const secrets = envoySecrets.map((secret) => Buffer.from(secret, "latin1"));
  return {
    refused,
    judge(shown) {
      if (shown === undefined || shown.length === 0) return "missing";
      if (typeof shown !== "string") return "wrong";
      const bytes = Buffer.from(shown, "latin1");
      let right = false;
      for (const secret of secrets)
        if (secret.length === bytes.length && timingSafeEqual(secret, bytes)) right = true;
      return right ? "proven" : "wrong";
    },
  };
}
