import ipaddr from "ipaddr.js";

const globalUnicast = ipaddr.IPv6.parseCIDR("2000::/3");
const nat64 = ipaddr.IPv6.parseCIDR("64:ff9b::/96");
/** Azure's host endpoint lies in a public range, yet answers only from inside, with credentials. */
const publicLookingMetadata = new Set(["168.63.129.16"]);

/**
 * Whether an address is a unicast address of the public internet.
 *
 * Refused besides private, loopback, link-local (metadata services live there), CGNAT, multicast, documentation and
 * reserved ranges: IPv6 addresses that carry an IPv4 address (mapped, NAT64), unless that one is public.
 */
export function isPublicAddress(text: string): boolean {
  const bare = text.replace(/%.*$/, "");
  if (!ipaddr.isValid(bare)) return false;
  const address = ipaddr.parse(bare);
  if (address instanceof ipaddr.IPv4) {
    return address.range() === "unicast" && !publicLookingMetadata.has(address.toString());
  }
  if (address.isIPv4MappedAddress()) return isPublicAddress(address.toIPv4Address().toString());
  if (address.match(nat64)) {
    return isPublicAddress(new ipaddr.IPv4(address.toByteArray().slice(12)).toString());
  }
  return address.range() === "unicast" && address.match(globalUnicast);
}
