import { createSocket } from "node:dgram";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createResolveHost } from "../../src/egress/resolve-host.ts";
import { createSafeFetch } from "../../src/egress/safe-fetch.ts";

/** Whoever names a URL that we fetch (a client id, an upstream's authorization server) owns the name servers of its host, too. */
describe("name servers that never answer", () => {
  const nameServer = createSocket("udp4");
  const asked = new Set<string>();
  let address: string;
  /** What it answers to names that begin so. */
  const codes: Readonly<Record<string, number>> = { nxdomain: 3, "no-data": 0, servfail: 2, refused: 5 };
  beforeAll(async () => {
    nameServer.on("message", (message, { port }) => {
      const name = nameOf(message);
      asked.add(name);
      const code = codes[name.split(".")[0] ?? ""];
      if (code !== undefined) nameServer.send(refusal(message, code), port, "127.0.0.1");
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

  // A proxy is asked for what is not found here, and not for what nobody has answered.
  it.each(Object.keys(codes))("%s is an answer, unlike silence: the name is not found here", async (kind) => {
    const found = await new Promise<string | undefined>((resolve) =>
      createResolveHost([address])(`${kind}.strangers.example.com`, (error) => resolve(error?.code)),
    );
    expect(found).toBe("ENOTFOUND");
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

/** An answer to `question` with nothing in it but this response code (RFC 1035 section 4.1.1). */
function refusal(question: Buffer, code: number): Buffer {
  const answer = Buffer.from(question);
  answer[2] = 0x81 | ((question[2] ?? 0) & 0x78);
  answer[3] = 0x80 | code;
  // What comes after the question (EDNS) is left out.
  answer.writeUInt16BE(0, 10);
  let end = 12;
  while (answer[end]) end += (answer[end] ?? 0) + 1;
  return answer.subarray(0, end + 5);
}

/** The name that a question is about (RFC 1035 section 4.1.2). */
function nameOf(message: Buffer): string {
  const labels: string[] = [];
  for (let at = 12; message[at]; at += (message[at] ?? 0) + 1)
    labels.push(message.subarray(at + 1, at + 1 + (message[at] ?? 0)).toString());
  return labels.join(".").toLowerCase();
}
