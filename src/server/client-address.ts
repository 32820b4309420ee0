import type { IncomingMessage } from "node:http";
import ipaddr from "ipaddr.js";

/**
 * Who Envoy says is calling: it appends the address it has seen, so what a client wrote itself stands further left.
 * IPv6 counts by /64, which is what one customer gets.
 * @param trustedHops proxies in front of Envoy whose X-Forwarded-For is believed
 * @returns the socket's peer where no valid address is written; undefined once the socket is gone
 */
export function clientAddress(request: IncomingMessage, trustedHops: number): string | undefined {
  const forwardedFor = [request.headers["x-forwarded-for"] ?? ""].flat().join(",");
  const written = forwardedAddress(forwardedFor, trustedHops);
  if (written === undefined) return request.socket.remoteAddress;
  const address = ipaddr.process(written);
  return address.kind() === "ipv4"
    ? address.toString()
    : ipaddr.IPv6.networkAddressFromCIDR(`${address}/64`).toString();
}

/**
 * The client's address by an `X-Forwarded-For` to which Envoy has appended the address that it has seen.
 * @param trustedHops proxies in front of Envoy whose word is believed
 * @returns undefined where no valid address is written
 */
export function forwardedAddress(forwardedFor: string, trustedHops: number): string | undefined {
  const written = forwardedFor
    .split(",")
    .at(-1 - trustedHops)
    ?.trim();
  return written !== undefined && ipaddr.isValid(written) ? written : undefined;
}
