import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { certificateAuthority } from "../../deploy/demo/certificate-authority.ts";
import { type EgressProxies, proxyFor, readEgressProxies } from "../../src/config/egress-proxies.ts";
import { awsKmsKeys } from "../../src/store/aws-kms-keys.ts";
import {
  createSafeFetch,
  createTrustedFetch,
  type ResolveHost,
} from "../../src/upstream-oauth/safe-fetch.ts";
import { createTrustedAuthorities } from "../../src/upstream-oauth/trusted-authorities.ts";
import { problemsOf } from "../config/problems-of.ts";
import { alice, startClient } from "../upstream-oauth/start-client.ts";

const unresolved: ResolveHost = (_name, done) => done(Object.assign(new Error(), { code: "ENOTFOUND" }), []);
const resolvesTo =
  (...addresses: string[]): ResolveHost =>
  (_name, done) =>
    done(
      null,
      addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
    );

describe("outbound calls through a CONNECT proxy", () => {
  let folder: string;
  let ca: string;
  let server: ReturnType<typeof createTlsServer>;
  let proxy: Server;
  let proxyUrl: string;
  /** What the proxy was asked for. */
  let asked: { readonly target: string; readonly authorization?: string }[] = [];
  /** What it answers to CONNECT. */
  let status = 200;
  const sockets = new Set<Socket>();

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "egress-"));
    const authority = await certificateAuthority(folder, ["as.example.test", "files.internal"]);
    ({ ca } = authority.files);
    server = createTlsServer(
      {
        key: await readFile(authority.files.key, "utf8"),
        cert: await readFile(authority.files.certificate, "utf8"),
      },
      (request, response) => response.end(JSON.stringify({ host: request.headers.host, path: request.url })),
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    proxy = createServer((_request, response) => response.writeHead(400).end());
    proxy.on("connect", (request: IncomingMessage, client: Socket) => {
      sockets.add(client);
      asked.push({
        target: request.url ?? "",
        ...(request.headers["proxy-authorization"] && {
          authorization: request.headers["proxy-authorization"],
        }),
      });
      if (status !== 200) {
        client.end(`HTTP/1.1 ${status} No\r\n\r\n`);
        return;
      }
      const inside = connect((server.address() as AddressInfo).port, "127.0.0.1", () => {
        client.write("HTTP/1.1 200 Connection Established\r\n\r\n");
        inside.pipe(client).pipe(inside);
      });
      sockets.add(inside);
      for (const one of [inside, client]) one.on("error", () => {});
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    proxyUrl = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  });
  afterAll(async () => {
    for (const socket of sockets) socket.destroy();
    server.closeAllConnections();
    proxy.closeAllConnections();
    await Promise.all([server, proxy].map((one) => new Promise((resolve) => one.close(resolve))));
    await rm(folder, { recursive: true, force: true });
  });
  beforeEach(() => {
    asked = [];
    status = 200;
  });

  const fetches = (
    resolveHost: ResolveHost = unresolved,
    {
      hosts = [],
      proxies,
      timeoutMs = 20_000,
    }: { hosts?: readonly string[]; proxies?: Partial<EgressProxies>; timeoutMs?: number } = {},
  ) => {
    const trusted = createTrustedAuthorities();
    const options = {
      limits: () => ({
        timeoutMs,
        maxResponseBytes: 10_000,
        allowedPrivateHosts: hosts,
        proxies: { https: proxyUrl, http: proxyUrl, noProxy: [], ...proxies },
      }),
      resolveHost,
      tls: { authorities: () => trusted(ca) },
    };
    return { safe: createSafeFetch(options), trusted: createTrustedFetch({ ...options, anyHttp: true }) };
  };
  const failure = (promise: Promise<unknown>) =>
    promise.then(
      () => ({ code: "fetched", message: "" }),
      ({ code, message }: { code: string; message: string }) => ({ code, message }),
    );

  it("a name that does not resolve here is the proxy's to reach, with the server's own certificate checked", async () => {
    for (const fetch of Object.values(fetches())) {
      const response = await fetch("https://as.example.test/token?x=1");
      expect(await response.json()).toEqual({ host: "as.example.test", path: "/token?x=1" });
    }
    expect(new Set(asked.map(({ target }) => target))).toEqual(new Set(["as.example.test:443"]));
    expect((await failure(fetches().safe("https://other.example.test/"))).code).toBe("tls_failed");
  });

  it("so is one that resolves here to public addresses", async () => {
    const { safe } = fetches(resolvesTo("93.184.216.34", "2606:2800:220:1::1"));
    expect((await safe("https://as.example.test/")).status).toBe(200);
    expect(asked).toHaveLength(1);
  });

  it.each([
    ["an address", "https://93.184.216.34/"],
    ["an IPv6 address", "https://[2606:2800:220:1::1]/"],
    ["a private address", "https://10.0.0.1/"],
    ["an address in another spelling", "https://0x0a000001/"],
    ["the metadata service", "https://169.254.169.254/latest"],
    ["a single label", "https://vault/"],
    ["a single label with a dot at its end", "https://vault./"],
    ["a .local name", "https://printer.local/"],
    ["a .internal name", "https://metadata.google.internal/"],
    ["a .internal name with a dot at its end", "https://METADATA.google.INTERNAL./"],
    ["a Kubernetes service", "https://vault.vault.svc/"],
    ["a Kubernetes service in full", "https://vault.vault.svc.cluster.local/"],
    ["another port", "https://as.example.test:8443/"],
  ])("a URL that somebody else chose is not asked of the proxy if it is %s", async (_what, url) => {
    expect((await failure(fetches().safe(url))).code).toBe("blocked_address");
    expect(asked).toEqual([]);
  });

  it.each([["10.1.2.3"], ["127.0.0.1"], ["169.254.169.254"], ["fd00::1"], ["93.184.216.34", "10.1.2.3"]])(
    "nor if its name resolves here to %s %s",
    async (...addresses) => {
      const { safe } = fetches(resolvesTo(...addresses.filter((one) => typeof one === "string")));
      expect((await failure(safe("https://as.example.test/"))).code).toBe("blocked_address");
      expect(asked).toEqual([]);
    },
  );

  it("nor while nobody knows what its name resolves to: it is refused with the reason when the call's time is up", async () => {
    const late: ResolveHost = (_name, done) =>
      void setTimeout(done, 1_500, null, [{ address: "10.1.2.3", family: 4 }]);
    expect((await failure(fetches(late).safe("https://as.example.test/"))).code).toBe("blocked_address");
    const never: ResolveHost = () => {};
    const again: ResolveHost = (_name, done) => done(Object.assign(new Error(), { code: "EAI_AGAIN" }), []);
    for (const [resolveHost, timeoutMs] of [
      [never, 1_200],
      [again, 20_000],
    ] as const)
      expect(await failure(fetches(resolveHost, { timeoutMs }).safe("https://as.example.test/"))).toEqual({
        code: "dns_failed",
        message: expect.stringMatching(
          /look-up of as\.example\.test was not answered.*allowed_private_hosts/,
        ),
      });
    expect(asked).toEqual([]);
    // The operator's own names need no look-up.
    expect((await fetches(never).trusted("https://as.example.test/")).status).toBe(200);
    expect(
      (await fetches(never, { hosts: ["as.example.test"] }).safe("https://as.example.test/")).status,
    ).toBe(200);
  });

  it("a call that its caller gives up while its name is looked up is not reported as a look-up without an answer", async () => {
    const never: ResolveHost = () => {};
    for (const abortFirst of [true, false]) {
      const controller = new AbortController();
      const given = new Error("not needed any more");
      const begin = () => fetches(never).safe("https://as.example.test/", { signal: controller.signal });
      if (abortFirst) controller.abort(given);
      const ended = begin().catch((error: unknown) => error);
      controller.abort(given);
      expect(await ended).toBe(given);
    }
    expect(asked).toEqual([]);
    // Time that is up is: nobody has answered by then.
    const signal = AbortSignal.timeout(200);
    const late = await failure(fetches(never).safe("https://as.example.test/", { signal }));
    expect(late.code).toBe("dns_failed");
  });

  it("what the operator named is reached directly where only internal name servers know it, on this machine always", async () => {
    const { port } = server.address() as AddressInfo;
    const { trusted } = fetches(resolvesTo("127.0.0.1"));
    expect((await trusted(`https://files.internal:${port}/`)).status).toBe(200);
    expect((await failure(trusted(`http://localhost:${port}/`))).code).toBe("unreachable");
    expect((await failure(trusted(`http://127.0.0.1:${port}/`))).code).toBe("unreachable");
    const opened = fetches(resolvesTo("127.0.0.1"), { hosts: ["files.internal"] }).safe;
    expect((await opened(`https://files.internal:${port}/`)).status).toBe(200);
    expect(asked).toEqual([]);
    const elsewhere = await failure(trusted("https://as.example.test:8443/"));
    expect(elsewhere).toMatchObject({
      code: "blocked_address",
      message: expect.stringContaining("NO_PROXY"),
    });
  });

  it("NO_PROXY is reached directly, under the rules for addresses", async () => {
    const { port } = server.address() as AddressInfo;
    const proxies = { noProxy: [".example.test"] };
    const { safe, trusted } = fetches(resolvesTo("127.0.0.1"), { proxies });
    expect((await trusted(`https://as.example.test:${port}/`)).status).toBe(200);
    expect((await failure(safe(`https://as.example.test:${port}/`))).code).toBe("blocked_address");
    expect(asked).toEqual([]);
  });

  it("the proxy gets its credentials, no log does; a refusal and an absence of the proxy are called that", async () => {
    const withUser = new URL(proxyUrl);
    [withUser.username, withUser.password] = ["gateway", "hunter2"];
    const proxies = { https: withUser.href };
    await fetches(unresolved, { proxies }).safe("https://as.example.test/");
    expect(asked[0]?.authorization).toBe(`Basic ${Buffer.from("gateway:hunter2").toString("base64")}`);
    status = 403;
    const refused = await failure(fetches(unresolved, { proxies }).safe("https://as.example.test/"));
    expect(refused).toMatchObject({ code: "unreachable", message: expect.stringContaining("answered 403") });
    status = 407;
    const { message } = await failure(fetches(unresolved, { proxies }).safe("https://as.example.test/"));
    expect(message).toContain("wants a user and a password");
    expect(`${refused.message}${message}`).not.toContain("hunter2");
    const away = await failure(
      fetches(unresolved, { proxies: { https: "http://127.0.0.1:1" } }).safe("https://as.example.test/"),
    );
    expect(away.message).toContain("the proxy 127.0.0.1:1 could not be");
  });

  it("discovery leaves through the proxy that the routes file names", async () => {
    const house = await startClient(
      `  - {id: a, from: "https://mcp.test", to: "https://as.example.test/mcp", mcp: {server: {}}, tls_custom_ca_file: ${ca}}`,
      { settings: `egress: {https_proxy: "${proxyUrl}"}`, resolveHost: unresolved },
    );
    try {
      const begun = await house.oauth.begin({
        userId: alice,
        route: house.route("a"),
        returnTo: "https://mcp.test/",
      });
      expect(begun.ok).toBe(false);
      expect(asked.map(({ target }) => target)).toContain("as.example.test:443");
    } finally {
      await house.close();
    }
  });

  it("AWS KMS is asked through it, too", async () => {
    status = 403;
    process.env.AWS_ACCESS_KEY_ID ??= "test";
    process.env.AWS_SECRET_ACCESS_KEY ??= "test";
    const awsKms = { key: "alias/k", region: "eu-central-1", endpoint: "https://kms.example.test" };
    await expect(awsKmsKeys({ kid: "k", awsKms }, { HTTPS_PROXY: proxyUrl, NO_PROXY: "" })).rejects.toThrow();
    expect(asked[0]?.target).toBe("kms.example.test:443");
  });
});

describe("which proxy a URL leaves through", () => {
  const proxies = readEgressProxies(
    {},
    {
      HTTPS_PROXY: "proxy.example.com:3128",
      https_proxy: "",
      http_proxy: "http://lower.example.com",
      HTTP_PROXY: "http://upper.example.com",
      NO_PROXY:
        "corp.example.com, .sub.test *.wild.test,10.0.0.0/8,192.0.2.7,only.test:8443,[2001:db8::1]:443",
    },
  );
  it.each([
    ["https://as.example.test/", "http://proxy.example.com:3128"],
    ["http://as.example.test/", "http://lower.example.com"],
    ["https://corp.example.com/", undefined],
    ["https://a.corp.example.com/", undefined],
    ["https://notcorp.example.com/", "http://proxy.example.com:3128"],
    ["https://CORP.example.com./", undefined],
    ["https://a.sub.test/", undefined],
    ["https://wild.test/", "http://proxy.example.com:3128"],
    ["https://a.wild.test/", undefined],
    ["https://10.2.3.4/", undefined],
    ["https://192.0.2.7/", undefined],
    ["https://192.0.2.8/", "http://proxy.example.com:3128"],
    ["https://only.test:8443/", undefined],
    ["https://only.test/", "http://proxy.example.com:3128"],
    ["https://[2001:db8::1]/", undefined],
    ["https://localhost/", undefined],
    ["https://a.localhost/", undefined],
    ["https://127.8.8.8/", undefined],
    ["https://[::1]/", undefined],
    ["https://[::ffff:127.0.0.1]/", undefined],
  ])("%s: %s", (url, expected) => {
    expect(proxyFor(new URL(url), proxies)).toBe(expected);
  });

  it.each([
    ["in the file", "egress: {https_proxy: 'socks5://user:hunter2@proxy.test:1080'}\n", {}],
    ["in the environment", "", { HTTPS_PROXY: "socks5://user:hunter2@proxy.test:1080" }],
  ])("one that is not an http proxy is an error, %s, and is not shown", (_where, text, env) => {
    const problems = problemsOf(`${text}issuer: https://auth.test\nroutes: []\n`, env).join("\n");
    expect(problems).toMatch(/error egress.*HTTPS_PROXY.*not an http or https URL -> .*SOCKS/);
    expect(problems).not.toContain("hunter2");
  });

  it("check-config warns of a server of the file that cannot be reached through it", () => {
    const file = `issuer: https://auth.test
egress: {https_proxy: "http://proxy.test:3128", no_proxy: [direct.example.com]}
routes:
  - {from: "https://a.test", to: "https://tools.example.com:8443/mcp", mcp: {server: {}}}
  - {from: "https://b.test", to: "https://direct.example.com:8443/mcp", mcp: {server: {}}}
  - {from: "https://c.test", to: "https://vault.tools.svc:8443/mcp", mcp: {server: {}}}
  - {from: "https://d.test", to: "https://tools.example.com/mcp", mcp: {server: {}}}
`;
    const warnings = problemsOf(file).filter((problem) => problem.includes("proxy"));
    expect(warnings).toEqual([
      expect.stringMatching(
        /warning routes\[0\].to: .*port 443 only -> add tools.example.com to egress.no_proxy/,
      ),
    ]);
  });

  it("the routes file wins over the environment; `*` is everything; without either there is none", () => {
    const env = { HTTPS_PROXY: "http://env.test", NO_PROXY: "a.test" };
    const url = new URL("https://a.test/");
    expect(proxyFor(url, readEgressProxies({}, env))).toBeUndefined();
    const file = { https_proxy: "http://file.test", no_proxy: [] };
    expect(proxyFor(url, readEgressProxies(file, env))).toBe("http://file.test");
    expect(proxyFor(url, readEgressProxies({ no_proxy: ["*"] }, env))).toBeUndefined();
    expect(proxyFor(url, readEgressProxies({}, {}))).toBeUndefined();
  });
});
