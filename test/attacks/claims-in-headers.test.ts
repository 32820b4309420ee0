import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createRemoteJWKSet, customFetch, decodeJwt, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type E2e, startE2e } from "../support/e2e.ts";
import { pingThroughEnvoy } from "../support/ping-through-envoy.ts";
import { throughEnvoy, throughEnvoyHttp2 } from "../support/through-envoy.ts";

const everybody = [{ allow: { and: [{ accept: true }] } }];
const claimNames = ["x-department", "x-roles", "x-mail", "x-badge", "x-user-id", "x-groups"];

describe("Claims that upstreams get in headers, through Envoy", () => {
  let stack: E2e;
  let application: Server;
  /** Raw headers of the requests at the upstream, in order. */
  const seen: [name: string, value: string][][] = [];
  beforeAll(async () => {
    application = createServer((request, response) => {
      const raw = request.rawHeaders;
      seen.push(
        raw.flatMap((name, index): [string, string][] =>
          // Node decodes header values as Latin-1.
          index % 2 === 0
            ? [[name.toLowerCase(), Buffer.from(raw[index + 1] ?? "", "latin1").toString()]]
            : [],
        ),
      );
      request.resume();
      response.writeHead(200, { "content-type": "application/json" }).end("{}");
    });
    application.listen(0, "127.0.0.1");
    await once(application, "listening");
    const to = `http://127.0.0.1:${(application.address() as AddressInfo).port}`;
    stack = await startE2e({
      names: ["app.test", "quiet.test", "narrow.test", "server.test"],
      config: (config) => ({
        ...config,
        jwt_claims_headers: {
          "X-Department": "department",
          "X-Roles": "roles",
          "X-Mail": "email",
          X_Badge: "badge",
          "X-User-Id": "sub",
          "X-Groups": "groups",
        },
        routes: [
          ...config.routes,
          { id: "app", from: "https://app.test", to, mcp: { client: {} }, policy: everybody },
          {
            id: "quiet",
            from: "https://quiet.test",
            to,
            mcp: { client: {} },
            policy: everybody,
            pass_identity_headers: false,
          },
          {
            id: "narrow",
            from: "https://narrow.test",
            to,
            mcp: { client: {} },
            policy: everybody,
            jwt_claims_headers: ["department", "user"],
          },
          {
            id: "server",
            from: "https://server.test",
            to,
            mcp: { server: { upstream_auth: "none" } },
            policy: everybody,
          },
        ],
      }),
    });
  });
  afterAll(async () => {
    await stack?.close();
    application?.close();
    application?.closeAllConnections();
  });

  /** Alice signs in at the application while the provider reports these claims. @returns her cookie */
  async function signIn(more: Record<string, unknown>, host = "app.test"): Promise<string> {
    const account = stack.openid.accounts.find(({ login }) => login === "alice");
    Object.assign(account ?? {}, { groups: ["engineering", "everyone"], more });
    const browser = stack.browser("alice");
    await browser.jar.removeAllCookies();
    const page = await browser.agree(
      await browser.open(`https://${host}/.pomerium/sign_in?return_to=/`),
      stack.signIn("alice"),
    );
    expect([page.url.host, page.status]).toEqual([host, 200]);
    return browser.jar.getCookieString(`https://${host}/`);
  }
  /** The values of the claim headers, in any spelling, at the upstream. */
  const arrived = () =>
    (seen.at(-1) ?? [])
      .map(([name, value]) => [name.replaceAll("_", "-"), value] as const)
      .filter(([name]) => claimNames.includes(name) || name.startsWith("x-pomerium-claim"));
  const asserted = () => seen.at(-1)?.find(([name]) => name === "x-pomerium-jwt-assertion")?.[1] ?? "";

  const forged = {
    "x-department": "board",
    X_Department: "board",
    "X-DEPARTMENT": "board",
    "x-roles": ["root", "admin"],
    x_roles: "root",
    "X-Mail": "ceo@example.com",
    x_mail: "ceo@example.com",
    "x-badge": "1",
    "X-Badge": "1",
    x_badge: "1",
    "x-user-id": "company/ceo",
    x_user_id: "company/ceo",
    "x-groups": "admins",
    x_groups: "admins",
  };

  it("the upstream gets the user's claims, and nothing that the client sends under these names", async () => {
    const cookie = await signIn({ department: "research", roles: ["editor", "auditor"], badge: 4711 });
    for (const send of [throughEnvoy, throughEnvoyHttp2]) {
      const headers = send === throughEnvoy ? forged : lowerCased(forged);
      expect((await send(stack, { url: "https://app.test/", headers: { cookie, ...headers } })).status).toBe(
        200,
      );
      expect(arrived().toSorted()).toEqual([
        ["x-badge", "4711"],
        ["x-department", "research"],
        ["x-groups", "engineering,everyone"],
        ["x-mail", "alice@example.com"],
        ["x-roles", "editor,auditor"],
        ["x-user-id", "company/alice"],
      ]);
    }
  });

  it("the assertion has them too, and verifies with the published keys", async () => {
    const keys = createRemoteJWKSet(new URL("https://app.test/.well-known/pomerium/jwks.json"), {
      [customFetch]: (url, options) => stack.fetch(url, options),
    });
    const { payload } = await jwtVerify(asserted(), keys, {
      issuer: "app.test",
      audience: "https://app.test",
    });
    expect(payload).toMatchObject({
      ...{ sub: "company/alice", email: "alice@example.com", groups: ["engineering", "everyone"] },
      ...{ department: "research", roles: ["editor", "auditor"], badge: 4711 },
    });
  });

  it("a client's header is removed if the user has no such claim", async () => {
    const cookie = await signIn({});
    await throughEnvoy(stack, { url: "https://app.test/", headers: { cookie, ...forged } });
    expect(
      arrived()
        .map(([name]) => name)
        .toSorted(),
    ).toEqual(["x-groups", "x-mail", "x-user-id"]);
    expect(decodeJwt(asserted())).not.toHaveProperty("department");
  });

  it("with pass_identity_headers: false, the upstream gets neither the claims nor the client's headers", async () => {
    const cookie = await signIn({ department: "research" }, "quiet.test");
    await throughEnvoy(stack, { url: "https://quiet.test/", headers: { cookie, ...forged } });
    expect([arrived(), asserted()]).toEqual([[], ""]);
  });

  it("a route can get other claims; the shared names stay closed to its clients", async () => {
    const cookie = await signIn({ department: "research", roles: ["editor"] }, "narrow.test");
    const headers = { cookie, ...forged, x_pomerium_claim_department: "board" };
    await throughEnvoy(stack, { url: "https://narrow.test/", headers });
    expect(arrived().toSorted()).toEqual([
      ["x-pomerium-claim-department", "research"],
      ["x-pomerium-claim-user", "company/alice"],
    ]);
    const claims = decodeJwt(asserted());
    expect(claims).toMatchObject({ department: "research", user: "company/alice" });
    expect(claims).not.toHaveProperty("roles");
  });

  it("an MCP server gets them from an MCP client's user", async () => {
    Object.assign(stack.openid.accounts.find(({ login }) => login === "bob") ?? {}, {
      more: { department: "sales" },
    });
    const client = await stack.client("bob", "https://server.test");
    await client.connect().catch(() => undefined);
    const token = client.tokens()?.access_token ?? "";
    expect((await pingThroughEnvoy(stack, "https://server.test", token)).status).toBe(200);
    expect(arrived()).toContainEqual(["x-department", "sales"]);
    expect(decodeJwt(asserted())).toMatchObject({ sub: "company/bob", department: "sales" });
  });

  it.each([
    ["UTF-8 text", "Forschung für Bücher", "Forschung für Bücher"],
    ["a boolean", false, "false"],
    ["text with a comma", "Research, Development", "Research, Development"],
    ["a line break", "research\r\nX-Roles: root", undefined],
    ["a NUL", "research\0", undefined],
    ["white space at an end, which a parser would remove", " research", undefined],
    ["half of a character", "\ud800", undefined],
    ["nothing", "", undefined],
    ["a list with a comma in an element, which would read as two", ["research,admins"], undefined],
    ["an empty list", [], undefined],
  ])("%s is sent as it is or not at all", async (_what, department, expected) => {
    const cookie = await signIn({ department });
    await throughEnvoy(stack, { url: "https://app.test/", headers: { cookie, ...forged } });
    expect(Object.fromEntries(arrived())["x-department"]).toBe(expected);
    const { department: inAssertion } = decodeJwt(asserted());
    if (JSON.stringify(department) !== '"\\ud800"') expect(inAssertion).toEqual(department);
  });

  it.each([
    ["an object", { id: 7 }],
    ["null", null],
    ["a list of lists", [["research"]]],
  ])("%s has no form in a header and is not passed", async (_what, department) => {
    const cookie = await signIn({ department });
    await throughEnvoy(stack, { url: "https://app.test/", headers: { cookie, ...forged } });
    expect(arrived().map(([name]) => name)).not.toContain("x-department");
    expect(decodeJwt(asserted())).not.toHaveProperty("department");
  });

  it("endless claims are left out, marked in the assertion and counted; the others still arrive", async () => {
    const before = await counted();
    const cookie = await signIn({
      department: "é".repeat(513),
      roles: Array.from({ length: 100 }, (_, index) => `role-${index}`),
      badge: "b".repeat(600),
    });
    await throughEnvoy(stack, { url: "https://app.test/", headers: { cookie } });
    expect(
      arrived()
        .map(([name]) => name)
        .toSorted(),
    ).toEqual(["x-groups", "x-mail", "x-roles", "x-user-id"]);
    const claims = decodeJwt(asserted());
    expect(claims).toMatchObject({ department_overflow: true, badge_overflow: true });
    expect(claims).not.toHaveProperty("department");
    expect(await counted()).toBeGreaterThanOrEqual(before + 2);
  });

  it("groups that the assertion does not contain completely are not sent as a header", async () => {
    const cookie = await signIn({ groups: Array.from({ length: 200 }, (_, index) => `team-${index}`) });
    await throughEnvoy(stack, { url: "https://app.test/", headers: { cookie, "x-groups": "admins" } });
    expect(arrived().map(([name]) => name)).not.toContain("x-groups");
    expect(decodeJwt(asserted())).toMatchObject({ groups_overflow: true });
  });

  async function counted(): Promise<number> {
    const metrics = await (await fetch(`${stack.adminUrl}/metrics`)).text();
    const [, value] = /limits_reached_total\{limit="assertion_claims"\} (\d+)/.exec(metrics) ?? [];
    return Number(value ?? 0);
  }
});

/** HTTP/2 has no other spelling; a name that is then there twice is sent once. */
function lowerCased(headers: Record<string, string | string[]>) {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
