import { readFile, writeFile } from "node:fs/promises";
import { request as plainRequest } from "node:http";
import { request as tlsRequest } from "node:https";
import { networkInterfaces } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { runEndAccess } from "../../src/cli/end-access.ts";
import { runGrants } from "../../src/cli/grants.ts";
import { certificates } from "../support/certificates.ts";
import { connected } from "../support/database-pool.ts";
import { type AdminStack, inStore, shownCode } from "./page-people.ts";
import { startAdmin } from "./start-admin.ts";

const anyPort = "127.0.0.1:0";
const listen = { grpc: anyPort, http: anyPort, admin: "0.0.0.0:0", grpc_authentication: "none" };
const access = { admins: { allow: { or: [{ groups: { has: "platform" } }] } } };
const settings = { listen, admin_api: access };

/** The first address of this machine that is not loopback: how a peer on the network reaches it. */
const networkAddress = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find(({ internal, family }) => !internal && family === "IPv4")?.address;

interface Answer {
  readonly status: number;
  readonly cookie: string;
  readonly text: string;
}
function send(
  url: string,
  options: {
    ca?: string;
    cookie?: string;
    form?: Record<string, string>;
    host?: string;
    /** Instead of the URL's, in the first line of the request. */
    path?: string;
    more?: Record<string, string>;
  } = {},
): Promise<Answer> {
  const target = new URL(url);
  const { ca, cookie, form, host = target.host, path, more } = options;
  const body = form && new URLSearchParams(form).toString();
  const headers = {
    ...more,
    host,
    ...(cookie && { cookie }),
    ...(body && {
      origin: `${target.protocol}//${host}`,
      "content-type": "application/x-www-form-urlencoded",
      "content-length": String(body.length),
    }),
  };
  return new Promise((resolve, reject) => {
    const make = ca === undefined ? plainRequest : tlsRequest;
    const sent = make(
      url,
      { method: body ? "POST" : "GET", headers, ...(path && { path }), ...(ca && { ca }) },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          resolve({
            status: response.statusCode ?? 0,
            cookie: [response.headers["set-cookie"] ?? []].flat().join(),
            text: Buffer.concat(chunks).toString(),
          }),
        );
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

const portOf = (stack: AdminStack, index = 0) => new URL(stack.replicas[index]?.url ?? "").port;
const cookieIn = ({ cookie }: Answer) => cookie.split(";")[0] ?? "";

describe("the admin page without TLS", () => {
  let stack: AdminStack;
  let local: string;
  beforeAll(async () => {
    stack = await startAdmin({ replicas: 2, settings });
    local = `http://127.0.0.1:${portOf(stack)}`;
  });
  afterAll(() => stack?.close());
  const signIn = async () =>
    cookieIn(await send(`${local}/admin/sign-in`, { form: { code: await shownCode(stack) } }));

  test.skipIf(networkAddress === undefined)(
    "answers a peer on the network with an explanation only, also under an accepted host name",
    async () => {
      const remote = `http://${networkAddress}:${portOf(stack)}/admin/sign-in`;
      for (const host of ["localhost", new URL(remote).host]) {
        const answer = await send(remote, { host });
        expect(answer.status).toBe(403);
        expect(answer.text).toContain("insecure_connection");
        expect(answer.text).not.toContain("<form");
      }
      expect((await send(`${local}/admin/sign-in`, { host: "LOCALHOST:1234" })).status).toBe(200);
    },
  );

  test("an expired code is rejected", async () => {
    const code = await shownCode(stack, { expiresAt: new Date(Date.now() - 1000) });
    expect(await send(`${local}/admin/sign-in`, { form: { code } })).toMatchObject({
      status: 403,
      cookie: "",
    });
  });

  test("a code that is entered at two replicas at the same moment is used once", async () => {
    const code = await shownCode(stack);
    const entered = await Promise.all(
      [0, 1, 0, 1].map((index) =>
        send(`http://127.0.0.1:${portOf(stack, index)}/admin/sign-in`, { form: { code } }),
      ),
    );
    expect(entered.map(({ status }) => status).toSorted()).toEqual([303, 403, 403, 403]);
  });

  test.each([
    ["a trailing dot", "localhost.", {}],
    ["a longer name", "localhost.evil.example", {}],
    ["an address with a suffix", "[::1].evil.example", {}],
    ["a user name", "evil.example@localhost", {}],
    ["the name that a proxy forwards", "evil.example", { more: { "x-forwarded-host": "localhost" } }],
    ["the URL of the request", "evil.example", { path: "http://localhost/admin/sign-in" }],
  ])("another host is not taken for an accepted one by %s", async (_what, host, options) => {
    const { status, text } = await send(`${local}/admin/sign-in`, { host, ...options });
    expect(status).toBe(403);
    expect(text).toContain("unknown_host");
  });

  test("a header does not make an unencrypted connection secure", async () => {
    const { status, cookie } = await send(`${local}/admin/sign-in`, {
      form: { code: await shownCode(stack) },
      more: { "x-forwarded-proto": "https" },
    });
    expect(status).toBe(303);
    expect(cookie).not.toContain("__Host-");
  });

  test("any replica answers for a session", async () => {
    const cookie = await signIn();
    const other = `http://127.0.0.1:${portOf(stack, 1)}/admin/`;
    expect((await send(other, { cookie })).text).toContain("Administrator");
  });

  test("a person whom the provider no longer reports in the group is out at the next request", async () => {
    const cookie = await signIn();
    expect((await send(`${local}/admin/`, { cookie })).status).toBe(200);
    await inStore(stack, async ({ store }) => {
      const person = await store.signInSessions.find("company/carol");
      if (person) await store.signInSessions.put({ ...person, groups: [] });
    });
    expect((await send(`${local}/admin/`, { cookie })).status).toBe(302);
  });

  test("a person whose sign-in was ended is out at the next request", async () => {
    const silent = { out: () => {}, err: () => {}, drained: async () => true };
    const command = { file: stack.file, env: stack.env, ...silent };
    const userId = "company/carol";
    for (const end of [
      () => inStore(stack, ({ store }) => store.browserSessions.endForUser(userId)),
      () =>
        connected(stack.env.DATABASE_URL, (client) =>
          client.query("delete from sign_in_session where user_id = $1", [userId]),
        ),
      () => runGrants("revoke", { ...command, which: { userId }, reason: "left" }),
      () => runEndAccess({ ...command, reason: "restored" }),
    ]) {
      const [code, cookie] = [await shownCode(stack), await signIn()];
      expect((await send(`${local}/admin/`, { cookie })).status).toBe(200);
      await end();
      expect((await send(`${local}/admin/`, { cookie })).status).toBe(302);
      expect((await send(`${local}/admin/sign-in`, { form: { code } })).status).toBe(403);
    }
  });

  test("a code and a session give the role of the policy of now, not of when the code was shown", async () => {
    const code = await shownCode(stack);
    const cookie = await signIn();
    const changed = { ...parse(await readFile(stack.file, "utf8")) };
    changed.admin_api = { viewers: access.admins };
    await writeFile(stack.file, stringify(changed));
    for (;;) {
      const { text } = await send(`${local}/admin/`, { cookie });
      if (text.includes('<span class="tag plain">Viewer</span>')) break;
    }
    const late = cookieIn(await send(`${local}/admin/sign-in`, { form: { code } }));
    expect((await send(`${local}/admin/`, { cookie: late })).text).toContain("Viewer</span>");
    expect((await send(`${local}/admin/keys`, { cookie: late })).status).toBe(403);

    await writeFile(stack.file, stringify({ ...changed, admin_api: {} }));
    for (;;) if ((await send(`${local}/admin/`, { cookie: late })).status === 404) break;
    expect((await send(`${local}/admin/sign-in`)).status).toBe(404);
  });
});

test("on a port for IPv6 and IPv4, the page knows loopback in both, and a peer on the network in neither", async () => {
  const stack = await startAdmin({ settings: { ...settings, listen: { ...listen, admin: "[::]:0" } } });
  try {
    const statusOf = async (address: string) => {
      const url = `http://${address}:${portOf(stack)}/admin/sign-in`;
      return (await send(url, { host: "localhost" })).status;
    };
    expect([await statusOf("127.0.0.1"), await statusOf("[::1]")]).toEqual([200, 200]);
    if (networkAddress !== undefined) expect(await statusOf(networkAddress)).toBe(403);
  } finally {
    await stack.close();
  }
});

describe("the admin page with listen.admin_tls", () => {
  let files: Awaited<ReturnType<typeof certificates>>;
  let stack: AdminStack;
  beforeAll(async () => {
    files = await certificates();
    const { certificate, key } = files.ours.files;
    const hosts = ["localhost"];
    stack = await startAdmin({
      settings: { listen: { ...listen, admin_tls: { certificate, key } }, admin_api: { ...access, hosts } },
    });
  });
  afterAll(async () => {
    await stack?.close();
    await files?.close();
  });

  test("sets a Secure cookie with the prefix __Host-, and answers under the names of admin_api.hosts only", async () => {
    const { ca } = files.ours;
    const url = `https://localhost:${portOf(stack)}`;
    expect((await send(`${url}/livez`, { ca })).status).toBe(200);
    expect((await send(`${url}/admin/sign-in`, { ca, host: "127.0.0.1" })).text).toContain("unknown_host");
    const { cookie } = await send(`${url}/admin/sign-in`, { ca, form: { code: await shownCode(stack) } });
    expect(cookie).toMatch(
      /^__Host-mcp_admin=[\w-]{43}; path=\/; expires=.*; samesite=strict; secure; httponly$/i,
    );
  });
});
