import { createSocket } from "node:dgram";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createResolveHost } from "../../src/egress/addresses.ts";
import { createSafeFetch } from "../../src/egress/safe-fetch.ts";

/** An attacker who names a URL to fetch (a client id, an upstream's authorization server) also controls its host's name servers. */
describe("name servers that never answer", () => {
  const nameServer = createSocket("udp4");
  const asked = new Set<string>();
  let address: string;
  /** Responses for names with these prefixes. */
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

  it("do not delay other look-ups: no thread of the process waits for them", async () => {
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
    // Another look-up, such as the database's name, by the system's resolver.
    await new Promise<void>((resolve, reject) =>
      createResolveHost()("localhost", (error) => (error ? reject(error) : resolve())),
    );
    await Promise.all(fetched);
    expect(ended).toEqual(names.map(() => "dns_failed"));
  });

  // The proxy is used for names that are not found here, not for names without a response.
  it.each(Object.keys(codes))(
    "%s is a response, unlike silence: the name is not found here",
    async (kind) => {
      const found = await new Promise<string | undefined>((resolve) =>
        createResolveHost([address])(`${kind}.strangers.example.com`, (error) => resolve(error?.code)),
      );
      expect(found).toBe("ENOTFOUND");
    },
  );

  it("the system resolves names of the operator's own network", async () => {
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

/** An empty response to `question` with this response code (RFC 1035 section 4.1.1). */
function refusal(question: Buffer, code: number): Buffer {
  const answer = Buffer.from(question);
  answer[2] = 0x81 | ((question[2] ?? 0) & 0x78);
  answer[3] = 0x80 | code;
  // Omits everything after the question (EDNS).
  answer.writeUInt16BE(0, 10);
  let end = 12;
  while (answer[end]) end += (answer[end] ?? 0) + 1;
  return answer.subarray(0, end + 5);
}

/** The name in a question (RFC 1035 section 4.1.2). */
function nameOf(message: Buffer): string {
  const labels: string[] = [];
  for (let at = 12; message[at]; at += (message[at] ?? 0) + 1)
    labels.push(message.subarray(at + 1, at + 1 + (message[at] ?? 0)).toString());
  return labels.join(".").toLowerCase();
}
