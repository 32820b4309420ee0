import { type LookupAddress, Resolver, lookup as systemLookup } from "node:dns";
import { readFileSync } from "node:fs";
import { parse } from "tldts";

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
