import { type LookupAddress, Resolver, lookup as systemLookup } from "node:dns";
import { readFileSync } from "node:fs";
import { parse } from "tldts";

/** A host name's addresses, all of them. */
export type ResolveHost = (
  hostname: string,
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/** For one question to one name server, and how often each is asked. */
const timeoutMs = 2000;
const tries = 2;

/**
 * Looks names up so that nobody's name servers hold up anybody else. The system's resolver takes one of two threads for as long
 * as an answer takes, ten seconds where none comes, also after the caller has given up: a few names of a stranger's whose servers
 * are silent would keep the database's name, and everybody's authorization server's, waiting. So names of the public internet are
 * asked for over the network, without a thread. All other names are nobody's but the operator's, and are the system's to resolve,
 * as are those that its hosts file has. For names that somebody else chose: what the routes file names is `resolveBySystem`'s.
 *
 * An error has the code `EAI_AGAIN` where no name server has answered, `ENOTFOUND` where one has.
 *
 * @param servers name servers to ask (`address[:port]`); absent: the system's
 */
export function createResolveHost(servers?: readonly string[]): ResolveHost {
  return (hostname, done) => {
    if (!isPublicName(hostname) || isInHostsFile(hostname)) {
      resolveBySystem(hostname, done);
      return;
    }
    // A new one each time, so that a change of the system's name servers is seen.
    const resolver = new Resolver({ timeout: timeoutMs, tries });
    if (servers) resolver.setServers(servers);
    const found: Record<4 | 6, LookupAddress[] | undefined> = { 4: undefined, 6: undefined };
    let failure: NodeJS.ErrnoException | null = null;
    const heard = (family: 4 | 6) => (error: NodeJS.ErrnoException | null, addresses?: string[]) => {
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
    resolver.resolve4(hostname, heard(4));
    resolver.resolve6(hostname, heard(6));
  };
}

/** Looks names up as every program of the system does: with its search domains and whatever else it is set up for. */
export const resolveBySystem: ResolveHost = (hostname, done) => systemLookup(hostname, { all: true }, done);

/** Whether a name is below a public suffix that ICANN has delegated: whoever owns it chooses the name servers. */
function isPublicName(hostname: string): boolean {
  return parse(hostname).isIcann === true;
}

/** Operators pin names there, for containers above all. */
function isInHostsFile(hostname: string): boolean {
  try {
    const lines = readFileSync("/etc/hosts", "utf8").split("\n");
    return lines.some((line) => line.replace(/#.*/, "").trim().toLowerCase().split(/\s+/).includes(hostname));
  } catch {
    return false;
  }
}
