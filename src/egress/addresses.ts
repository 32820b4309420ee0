import { type LookupAddress, Resolver, lookup as systemLookup } from "node:dns";
import { readFileSync } from "node:fs";
import ipaddr from "ipaddr.js";
import { parse } from "tldts";

export function portOf(url: URL): number {
  return url.port ? Number(url.port) : url.protocol === "https:" ? 443 : 80;
}

export function withoutBrackets(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, "$1");
}

/** Private hosts that the operator allows (`allowed_private_hosts`). */
export interface PrivateHostList {
  /** Whether an entry names this host (`host` allows every port, `host:port` one). */
  namesHost(hostname: string, port: number): boolean;
  /** Whether an entry is this address, or a CIDR block that contains it. */
  holdsAddress(address: string): boolean;
  /** No CIDR block and no address: no entry that can be checked only after connecting. */
  readonly namesOnly: boolean;
}

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/**
 * Parses `allowed_private_hosts`: host names, `host:port`, addresses and CIDR blocks (IPv6 with a port in brackets).
 *
 * @throws TypeError for an entry that is none of these.
 */
export function createPrivateHostList(entries: readonly string[]): PrivateHostList {
  const hosts = new Set<string>();
  const blocks: [Address, number][] = [];
  for (const entry of entries) {
    const text = entry.trim().toLowerCase();
    if (ipaddr.isValidCIDR(text)) {
      blocks.push(ipaddr.parseCIDR(text));
      continue;
    }
    const bare = text.replace(/^\[(.*)\]$/, "$1");
    if (ipaddr.isValid(bare)) {
      const address = ipaddr.parse(bare);
      blocks.push([address, address.kind() === "ipv4" ? 32 : 128]);
      hosts.add(bare);
      continue;
    }
    const match = /^(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?$/.exec(text);
    if (match === null || Number(match[1] ?? 0) > 65_535) {
      throw new TypeError(
        `allowed_private_hosts: "${entry}" is not a host, host:port, address or CIDR block`,
      );
    }
    hosts.add(text.replace(/^\[(.*)\]/, "$1"));
  }
  return {
    namesOnly: blocks.length === 0,
    namesHost(hostname, port) {
      const host = hostname.toLowerCase().replace(/^\[(.*)\]$/, "$1");
      return hosts.has(host) || hosts.has(`${host}:${port}`);
    },
    holdsAddress(text) {
      const address = ipaddr.process(text);
      return blocks.some(
        ([block, bits]) => block.kind() === address.kind() && address.match([block, bits] as never),
      );
    },
  };
}

/** Whether `createPrivateHostList` can parse it. */
export function isPrivateHost(entry: string): boolean {
  try {
    createPrivateHostList([entry]);
    return true;
  } catch {
    return false;
  }
}

const globalUnicast = ipaddr.IPv6.parseCIDR("2000::/3");
const nat64 = ipaddr.IPv6.parseCIDR("64:ff9b::/96");
/** Azure's wire server has a public address, but is reachable only from inside, and returns credentials. */
const publicLookingMetadata = new Set(["168.63.129.16"]);

/**
 * Whether an address is a unicast address of the public internet.
 *
 * Private, loopback, link-local (metadata services), CGNAT, multicast, documentation and reserved ranges are not public, nor are
 * IPv6 addresses that embed an IPv4 address (mapped, NAT64), unless that address is public.
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

/** Whether a URL's host name is loopback: `localhost`, `*.localhost` (RFC 6761), 127.0.0.0/8 or `[::1]`. */
export function isLoopbackName(hostname: string): boolean {
  return (
    hostname === "localhost" ||
    hostname.endsWith(".localhost") ||
    hostname === "[::1]" ||
    /^127(\.\d{1,3}){3}$/.test(hostname)
  );
}

/** Resolves a host name to all its addresses. */
export type ResolveHost = (
  hostname: string,
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/** Per query and name server. */
const timeoutMs = 2000;
const tries = 2;

/**
 * Resolves host names that are not from the routes file, which uses `resolveBySystem`. The system's resolver occupies one of two
 * threads per lookup, up to ten seconds and even after the caller aborts: a few names with unresponsive name servers would block the
 * lookups of the database and of all authorization servers. Therefore names under a public suffix are resolved over the network,
 * without a thread. All other names, and those in the hosts file, are the operator's and are resolved by the system.
 *
 * The error code is `EAI_AGAIN` if no name server answered, `ENOTFOUND` if one did.
 *
 * @param servers name servers (`address[:port]`); default: the system's
 */
export function createResolveHost(servers?: readonly string[]): ResolveHost {
  return (hostname, done) => {
    if (!isPublicName(hostname) || isInHostsFile(hostname)) {
      resolveBySystem(hostname, done);
      return;
    }
    // A new resolver per lookup picks up changes of the system's name servers.
    const resolver = new Resolver({ timeout: timeoutMs, tries });
    if (servers) resolver.setServers(servers);
    const found: Record<4 | 6, LookupAddress[] | undefined> = { 4: undefined, 6: undefined };
    let failure: NodeJS.ErrnoException | null = null;
    const onAnswer = (family: 4 | 6) => (error: NodeJS.ErrnoException | null, addresses?: string[]) => {
      failure = error?.code === "ETIMEOUT" ? error : (failure ?? error);
      found[family] = (addresses ?? []).map((address) => ({ address, family }));
      if (found[4] === undefined || found[6] === undefined) return;
      const all = [...found[4], ...found[6]];
      if (all.length > 0) done(null, all);
      else {
        const code = failure?.code === "ETIMEOUT" ? "EAI_AGAIN" : "ENOTFOUND";
        done(Object.assign(new Error(`${hostname} does not resolve`, { cause: failure }), { code }), []);
      }
    };
    resolver.resolve4(hostname, onAnswer(4));
    resolver.resolve6(hostname, onAnswer(6));
  };
}

/** Resolves names with the system's resolver, including search domains. */
export const resolveBySystem: ResolveHost = (hostname, done) => systemLookup(hostname, { all: true }, done);

/** Whether a name is under a public suffix delegated by ICANN: its owner chooses the name servers. */
function isPublicName(hostname: string): boolean {
  return parse(hostname).isIcann === true;
}

/** Operators pin names there, mainly in containers. */
function isInHostsFile(hostname: string): boolean {
  try {
    const lines = readFileSync("/etc/hosts", "utf8").split("\n");
    return lines.some((line) => line.replace(/#.*/, "").trim().toLowerCase().split(/\s+/).includes(hostname));
  } catch {
    return false;
  }
}
