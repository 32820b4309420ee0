import ipaddr from "ipaddr.js";
import type { PolicyMatcher } from "../config/route.ts";
import { PolicyError } from "./policy-error.ts";

/** `undefined`: the address cannot be read. */
type AddressTest = (address: string | undefined) => boolean | undefined;

/**
 * Compiles a `source_ip` matcher: addresses or CIDR blocks under `is`, `in` or `not_in`. IPv4 written as IPv6
 * (`::ffff:10.0.0.1`) is read as IPv4.
 *
 * @throws PolicyError for what is neither an address nor a block.
 */
export function compileAddressMatcher(matcher: PolicyMatcher): AddressTest {
  if (matcher.kind === "all") {
    if (matcher.matchers.length === 0) throw new PolicyError("source_ip needs an address or a CIDR block");
    const tests = matcher.matchers.map(compileAddressMatcher);
    return (address) => {
      const answers = tests.map((test) => test(address));
      return answers.includes(undefined) ? undefined : answers.every(Boolean);
    };
  }
  if (matcher.kind !== "is" && matcher.kind !== "in" && matcher.kind !== "not_in") {
    throw new PolicyError(`source_ip takes is, in and not_in, not ${matcher.kind}`);
  }
  const values = "values" in matcher ? matcher.values : [matcher.value];
  const blocks = values.map((value) => parseBlock(String(value)));
  const wanted = matcher.kind !== "not_in";
  return (address) => {
    if (address === undefined || !ipaddr.isValid(address)) return undefined;
    const parsed = ipaddr.process(address);
    return blocks.some((block) => block[0].kind() === parsed.kind() && parsed.match(block)) === wanted;
  };
}

function parseBlock(value: string): [ipaddr.IPv4 | ipaddr.IPv6, number] {
  try {
    if (value.includes("/")) return ipaddr.parseCIDR(value);
    // `isValid` of IPv4 takes `10` and `0x7f.1`, which nobody means.
    if (!value.includes(":") && !ipaddr.IPv4.isValidFourPartDecimal(value))
      throw new Error("not four decimal parts");
    const address = ipaddr.process(value);
    return [address, address.kind() === "ipv4" ? 32 : 128];
  } catch (cause) {
    throw new PolicyError(`"${value}" is neither an IP address nor a CIDR block such as 10.0.0.0/8`, {
      cause,
    });
  }
}
