import { createSocket } from "node:dgram";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createResolveHost } from "../../src/upstream-oauth/resolve-host.ts";
import { createSafeFetch } from "../../src/upstream-oauth/safe-fetch.ts";

/** Whoever names a URL that we fetch (a client id, an upstream's authorization server) owns the name servers of its host, too. */
describe("name servers that never answer", () => {
  const nameServer = createSocket("udp4");
  const asked = new Set<string>();
  let address: string;
  beforeAll(async () => {
    nameServer.on("message", (message) => {
      asked.add(nameOf(message));
    });
    nameServer.bind(0, "127.0.0.1");
    await once(nameServer, "listening");
    address = `127.0.0.1:${nameServer.address().port}`;
  });
  afterAll(() => nameServer.close());

  it("hold up nobody else's look-ups: not a thread of the process waits for them", async () => {
    const limits = { timeoutMs: 60_000, maxResponseBytes: 1024, allowedPrivateHosts: [] };
    const resolveHost = createResolveHost([address]);
    const fetch = createSafeFetch({ limits: () => limits, resolveHost });
    const names = Array.from({ length: 20 }, (_, index) => `a${index}.strangers.example.com`);
    const ended: string[] = [];
    const fetched = names.map((name) =>
      fetch(`https://${name}/client.json`).then(
        () => ended.push("fetched"),
        (error: { code: string }) => ended.push(error.code),
      ),
    );
    await expect.poll(() => asked.size, { timeout: 60_000 }).toBe(names.length);
    // The database's name, say, by the system's resolver.
    await new Promise<void>((resolve, reject) =>
      createResolveHost()("localhost", (error) => (error ? reject(error) : resolve())),
    );
    await Promise.all(fetched);
    expect(ended).toEqual(names.map(() => "dns_failed"));
  });

  it("names of the operator's own network are the system's to resolve", async () => {
    const before = asked.size;
    const found = await new Promise<string[]>((resolve) =>
      createResolveHost([address])("localhost", (_error, addresses) =>
        resolve(addresses.map((one) => one.address)),
      ),
    );
    expect(found).toContain("127.0.0.1");
    expect(asked.size).toBe(before);
  });
});

/** The name that a question is about (RFC 1035 section 4.1.2). */
function nameOf(message: Buffer): string {
  const labels: string[] = [];
  for (let at = 12; message[at]; at += (message[at] ?? 0) + 1)
    labels.push(message.subarray(at + 1, at + 1 + (message[at] ?? 0)).toString());
  return labels.join(".").toLowerCase();
}
