import { Socket } from "node:net";
import { expect, it } from "vitest";
import { peerAddress } from "../../src/server/http/request.ts";

/** A request of a peer with this address. */
function from(remoteAddress: string | undefined) {
  const socket = Object.defineProperty(new Socket(), "remoteAddress", { value: remoteAddress });
  return peerAddress({ socket });
}

it.each([
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["2001:db8:1:2:aaaa::1", "2001:db8:1:2::"],
  ["2001:db8:1:2:bbbb:1:2:3", "2001:db8:1:2::"],
  ["fe80::1%eth0", "fe80::"],
  ["::1", "::"],
])("limits per address count the peer %s as %s: one subscriber has a whole /64", (address, counted) => {
  expect(from(address)).toBe(counted);
});

it("a peer of a Unix socket has no address", () => {
  expect(from(undefined)).toBeUndefined();
});
