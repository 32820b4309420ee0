import ipaddr from "ipaddr.js";
import type { PolicyMatcher } from "../model/route.ts";
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
    const parsed = parseAddress(address);
    if (!parsed) return undefined;
    return blocks.some((block) => block[0].kind() === parsed.kind() && parsed.match(block)) === wanted;
  };
}

function parseBlock(value: string): [ipaddr.IPv4 | ipaddr.IPv6, number] {
  if (value.includes("/") && ipaddr.isValidCIDR(value)) return ipaddr.parseCIDR(value);
  const address = parseAddress(value);
  if (!address)
    throw new PolicyError(`"${value}" is neither an IP address nor a CIDR block such as 10.0.0.0/8`);
  return [address, address.kind() === "ipv4" ? 32 : 128];
}

/** IPv4 in four decimal parts only: the library also takes `10.1` and `0x7f.1`, which nobody means. */
function parseAddress(value: string | undefined): ipaddr.IPv4 | ipaddr.IPv6 | undefined {
  if (value === undefined) return undefined;
  const readable = ipaddr.IPv4.isValidFourPartDecimal(value) || ipaddr.IPv6.isValid(value);
  return readable ? ipaddr.process(value) : undefined;
}
