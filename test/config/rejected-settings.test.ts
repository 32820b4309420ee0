import { describe, expect, it } from "vitest";
import { load } from "./load.ts";
import { problemsOf } from "./problems-of.ts";

const head = "issuer: https://auth.example.com\npolicy: {allow: {or: [{accept: true}]}}\n";
const signIn = "sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\n";
const provider = (extra: string) =>
  `sign_in: {providers: [{issuer: https://id.example.com, client_id: c, ${extra}}]}\n`;
const routes = "routes:\n  - {id: tickets, from: https://h.example.com, to: http://x, mcp: {}}\n";

/** Problems of a route with this under `mcp`, without their columns. */
const withMcp = (mcp: string, more = "") =>
  problemsOf(
    `${head}${signIn}${routes}  - {id: app, from: https://app.example.com, to: http://app, mcp: {client: {}}}\n  - {from: https://i.example.com, to: http://x, ${more}mcp: ${mcp}}\n`,
  ).map((problem) => problem.replace(/^(\d+):\d+ /, "$1 "));

/** Problems of a file with this at its top level, where line 3 begins. */
const withTop = (text: string) => problemsOf(`${head}${text}\n${signIn}${routes}`);

describe("settings that would fail or have no effect at runtime are rejected", () => {
  it.each([
    "*.svc.cluster.local",
    "https://keycloak.internal",
    "keycloak.internal/realms",
    "10.0.0.0/33",
    "box:70000",
  ])("an invalid private host: %j", (host) => {
    const hosts = ["keycloak.internal:8443", "Box", "[::1]:9000", "10.1.0.0/16", "10.2.0.7"];
    expect(withTop(`upstream_oauth: {allowed_private_hosts: ${JSON.stringify(hosts)}}`)).toEqual([]);
    expect(withTop(`upstream_oauth: {allowed_private_hosts: [box, ${JSON.stringify(host)}]}`)).toEqual([
      `3:47 error upstream_oauth.allowed_private_hosts[1]: ${JSON.stringify(host)} is not a host, host:port, address or CIDR block -> write each host by its name, without scheme, path or wildcard, or the CIDR block of its addresses`,
    ]);
  });

  it("a background refresh for minutes of usage, which is recorded every few minutes", () => {
    for (const value of ["0", "1h"])
      expect(withTop(`upstream_oauth: {refresh_ahead: {used_within: ${value}}}`)).toEqual([]);
    expect(withTop("upstream_oauth: {refresh_ahead: {used_within: 10m}}")).toEqual([
      "3:47 error upstream_oauth.refresh_ahead.used_within: the duration is shorter than an hour -> write 1h or more, or 0 for no background refresh",
    ]);
  });

  it("scopes of a provider without openid, Pomerium's idp_scopes too", () => {
    const problem =
      "without the scope openid the provider issues no ID token, and sign-in fails -> add openid";
    expect(problemsOf(head + provider("scopes: [profile, email]") + routes)).toEqual([
      `3:78 error sign_in.providers[0].scopes: ${problem}`,
    ]);
    expect(problemsOf(head + provider('scopes: ["email openid"]') + routes)).toEqual([]);
    const idp = "idp_provider_url: https://id.example.com\nidp_client_id: c\nidp_scopes: [groups]\n";
    expect(problemsOf(head + idp + routes)).toEqual([`5:13 error idp_scopes: ${problem}`]);
  });

  it.each(["{a: 1}", "[]", "[{a: 1}]", "", ".nan"])(
    "a required claim that no token can have: %s",
    (value) => {
      const trusted = (claims: string) =>
        withTop(
          `external_tokens: {trusted_issuers: [{issuer: https://t.example.com, audience: "https://h.example.com", required_claims: {${claims}}}]}`,
        );
      expect(trusted("a: x, b: 1, c: true, d: [x, 1, false], e/f: y")).toEqual([]);
      expect(trusted(`ok: 1, tenant: ${value}`)).toEqual([
        expect.stringMatching(
          /^3:\d+ error external_tokens\.trusted_issuers\[0\]\.required_claims\.tenant: no claim .* -> write a string, a number, .* address\/country$/,
        ),
      ]);
    },
  );

  it("the gateway's own issuer as a provider or trusted issuer, and the id of service accounts for either, all at once", () => {
    const issuer = "issuer: https://Auth.example.com:443/";
    const trusted = `external_tokens: {trusted_issuers: [{id: t, ${issuer}, audience: "https://h.example.com"}]}\n`;
    const people = `sign_in: {providers: [{id: service-account, issuer: https://id.example.com, client_id: c}, {id: own, ${issuer}, client_id: c}]}\n`;
    const ours =
      "this is the gateway's own issuer, which trusts its own tokens and cannot sign users in -> name another issuer, or remove the entry";
    const machines =
      "the id service-account is reserved: its users would be treated as service accounts -> give it another id";
    const errors = problemsOf(head + trusted + people + routes).filter((line) => line.includes(" error "));
    expect(errors).toEqual([
      `3:53 error external_tokens.trusted_issuers[0].issuer: ${ours}`,
      `4:28 error sign_in.providers[0].id: ${machines}`,
      `4:110 error sign_in.providers[1].issuer: ${ours}`,
    ]);
  });

  it("the id of service accounts, also if it is derived from the host of an issuer", () => {
    const trusted =
      "{trusted_issuers: [{issuer: https://service-account, audience: 'https://h.example.com'}]}";
    expect(withTop(`external_tokens: ${trusted}`)).toEqual([
      expect.stringMatching(/^3:\d+ error external_tokens\.trusted_issuers\[0\]\.id: the id service-account/),
    ]);
  });

  it.each([
    ["http://app.example.com/cb", "must use https, a loopback address"],
    ["http://127.0.0.2/cb", "must use https, a loopback address"],
    ["https://good.example.com@evil.example.com/cb", "must not contain user information"],
    ["https://app.example.com/cb#top", "must be absolute and without a fragment"],
    ["/cb", "must be absolute and without a fragment"],
    ["file:/tmp/cb", "must not use file:"],
    [`https://app.example.com/${"x".repeat(2000)}`, "must not be longer than 2000 characters"],
  ])("an invalid redirect URI of a client: $1", (uri, why) => {
    const clients = (...uris: string[]) =>
      withTop(`authorization_server: {clients: [{client_id: c, redirect_uris: ${JSON.stringify(uris)}}]}`);
    expect(clients("https://app.example.com/cb", "http://[::1]:7/cb", "com.example.app:/cb")).toEqual([]);
    const [problem, ...others] = clients("https://app.example.com/cb", uri);
    expect(others).toEqual([]);
    expect(problem).toContain(
      `3:94 error authorization_server.clients[0].redirect_uris[1]: ${JSON.stringify(uri)} is not a redirect URI: it ${why}`,
    );
    expect(problem).toContain(" -> write an absolute URI without user info or fragment: https, http to ");
  });

  it("a client with too many redirect URIs, or a name that is too long", () => {
    const uris = Array.from({ length: 21 }, (_, index) => `https://app.example.com/${index}`);
    const client = { client_id: "c", client_name: "n".repeat(201), redirect_uris: uris };
    expect(withTop(`authorization_server: {clients: [${JSON.stringify(client)}]}`)).toEqual([
      "3:65 error authorization_server.clients[0].client_name: client_name is too long -> write at most 200",
      "3:285 error authorization_server.clients[0].redirect_uris: redirect_uris has too many entries -> write at most 20",
    ]);
  });

  it("a client with the id of service accounts", () => {
    const clients = "[{client_id: service-account, redirect_uris: [https://a.example.com/cb]}]";
    expect(withTop(`authorization_server: {clients: ${clients}}`)).toEqual([
      "3:46 error authorization_server.clients[0].client_id: the client id service-account is reserved for service accounts -> give the client another id",
    ]);
  });
});

describe("contradictory settings of a route", () => {
  it.each([
    ["{client: {routes: [tickets]}}", "rate_limit: {requests_per_minute: 5}, ", []],
    ["{client: {routes: [https://h.example.com/]}}", "", []],
    [
      "{client: {routes: [tickets, app, https://app.example.com, gone]}}",
      "",
      [
        "error routes[2].mcp.client.routes[1]: app is the route of an application, not of an MCP server -> write the id or `from` of an MCP route",
        "error routes[2].mcp.client.routes[2]: https://app.example.com is the route of an application, not of an MCP server -> write the id or `from` of an MCP route",
        "error routes[2].mcp.client.routes[3]: there is no route gone -> write the id or `from` of an MCP route",
      ],
    ],
    [
      "{pass_upstream_access_token: true, server: {}}",
      "tools: {deny: [x]}, rate_limit: {tool_calls_per_minute: 5}, ",
      [
        "error routes[2].tools: requests to an application call no tools: the key would have no effect -> write tools on the MCP routes that the application calls",
        "error routes[2].rate_limit.tool_calls_per_minute: requests to an application call no tools: the key would have no effect -> write it on the MCP routes that the application calls, or requests_per_minute here",
        "error routes[2].mcp.server: a route is a server or a client, not both -> remove one",
      ],
    ],
  ])("of an application: %s", (mcp, more, expected) => {
    expect(withMcp(mcp, more)).toEqual(expected.map((problem) => `7 ${problem}`));
  });

  it("authorization_url_params that the gateway sets", () => {
    const names = [
      "redirect_uri",
      "state",
      "client_id",
      "response_type",
      "code_challenge",
      "code_challenge_method",
    ];
    const given = names.map((name) => `${name}: x`).join(", ");
    expect(
      withMcp(
        `{server: {upstream_oauth2: {authorization_url_params: {prompt: consent, resource: "", ${given}}}}}`,
      ),
    ).toEqual(
      names.map(
        (name) =>
          `7 error routes[2].mcp.server.upstream_oauth2.authorization_url_params.${name}: ${name} is set by the gateway: another value would disable a protection -> remove ${name}`,
      ),
    );
  });

  const upstreamOAuth2 = (style: string, given: string) =>
    `upstream_oauth2: {client_id: c, ${given}endpoint: {auth_url: https://a/a, token_url: https://a/t${style}}}`;
  const upstreamAuth = (kind: string, more: string) => (style: string, given: string) =>
    `upstream_auth: {${kind}: {client_id: c, ${given}${more}${style}}}`;
  describe.each([
    ["upstream_oauth2", upstreamOAuth2, "upstream_oauth2", "endpoint.auth_style"],
    [
      "token_exchange",
      upstreamAuth("token_exchange", "token_url: https://a/t"),
      "upstream_auth.token_exchange",
      "auth_style",
    ],
    [
      "client_credentials",
      upstreamAuth("client_credentials", "workload_identity_file: w"),
      "upstream_auth.client_credentials",
      "auth_style",
    ],
    ["id_jag", upstreamAuth("id_jag", "idp_client_id: i"), "upstream_auth.id_jag", "auth_style"],
  ] as const)("client credentials in %s", (_kind, write, section, styleKey) => {
    const problems = (style: string, given: string) =>
      withMcp(`{server: {${write(style && `, auth_style: ${style}`, given)}}}`).map((problem) =>
        problem.replace(`7 error routes[2].mcp.server.${section}.`, ""),
      );

    it.each([
      ["", ""],
      ["none", ""],
      ["private_key_jwt", ""],
      ["header", "client_secret: s, "],
      ["client_secret_post", "client_secret: s, "],
      ["private_key_jwt", "private_key: k, signing_alg: PS256, "],
      ["", "private_key: k, signing_alg: Ed25519, "],
    ])("may be auth_style %j with {%s}", (style, given) => {
      expect(problems(style, given)).toEqual([]);
    });

    it("must be present if auth_style requires it, also with Pomerium's names", () => {
      const needed = (style: string) =>
        `${styleKey}: ${style} needs a client_secret -> add client_secret, or write none for a public client`;
      expect(problems("header", "")).toEqual([needed("client_secret_basic")]);
      expect(problems("client_secret_post", "")).toEqual([needed("client_secret_post")]);
    });

    it("must match auth_style", () => {
      const secret = (style: string) =>
        `client_secret: auth_style ${style} does not use it -> remove client_secret, or write auth_style: client_secret_basic or client_secret_post`;
      const key = (style: string) =>
        `private_key: auth_style ${style} does not use it -> remove private_key, or write auth_style: private_key_jwt`;
      expect(problems("none", "client_secret: s, private_key: k, ")).toEqual([secret("none"), key("none")]);
      expect(problems("private_key_jwt", "client_secret: s, ")).toEqual([secret("private_key_jwt")]);
      expect(problems("params", "client_secret: s, private_key: k, ")).toEqual([key("client_secret_post")]);
    });

    it("must use an algorithm for its private_key", () => {
      expect(problems("", "signing_alg: RS256, ")).toEqual([
        "signing_alg: it is the algorithm of a private_key, and there is none: the gateway's own key signs with ES256 -> add private_key, or remove signing_alg",
      ]);
      expect(problems("", "private_key: k, signing_alg: HS256, ")).toEqual([
        "signing_alg: signing_alg has an unknown value -> write one of: ES256, ES384, ES512, RS256, RS384, RS512, PS256, PS384, PS512, EdDSA, Ed25519",
      ]);
    });
  });
});

it("host patterns are converted to lower case, like hosts in URLs", () => {
  const settings = `upstream_oauth: {allowed_as_metadata_domains: ["*.Example.NET", Login.example.com]}
authorization_server: {allowed_client_id_domains: [Claude.ai]}`;
  const { config } = load(`${routes.split("\n")[1]}\n${settings}`);
  expect(config.upstreamOAuth.allowedAsMetadataDomains).toEqual(["*.example.net", "login.example.com"]);
  expect(config.authorizationServer.allowedClientIdDomains).toEqual(["claude.ai"]);
});
