import { SignJWT } from "jose";

/** Requests that must never be allowed, by kind. None has a valid token. */
export interface Corpus {
  /** `CheckRequest`s. */
  readonly checks: readonly object[];
  /** `ProcessingRequest`s. */
  readonly processing: readonly object[];
  /** HTTP/1.1 requests to MCP routes, for Envoy. */
  readonly calls: readonly Buffer[];
  /** HTTP/1.1 requests to the gateway's own endpoints. */
  readonly own: readonly Buffer[];
}

/** @param clientId id of a registered client with `redirectUri`. */
export async function corpus(clientId: string, redirectUri: string): Promise<Corpus> {
  const forged = await new SignJWT({
    iss: "https://auth.test",
    aud: "https://open.test",
    sub: "company/alice",
    client_id: clientId,
    grant_id: "g",
    scope: "mcp",
    jti: "j",
    iat: 1_700_000_000,
    exp: 9_000_000_000,
  })
    .setProtectedHeader({ alg: "HS256", typ: "at+jwt", kid: "k" })
    .sign(Buffer.from("the public key, for all we know."));
  const call = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"greet","arguments":{}}}';
  const headers = {
    accept: "application/json, text/event-stream",
    "content-type": "application/json",
    "mcp-protocol-version": "2025-11-25",
    "mcp-session-id": "s-1",
    cookie: "__Host-mcp_session=abcdef; other=1",
    "x-request-id": "r-1",
  };
  const bearers = [undefined, `Bearer ${forged}`, "Bearer x", "Basic YTpi"];
  const requests = bearers.flatMap((authorization) =>
    ["open.test", "everything.test", "nobody.test"].flatMap((host) =>
      ["POST", "GET", "OPTIONS", "DELETE"].map((method) => ({
        host,
        method,
        path: method === "GET" ? "/mcp?x=%20y" : "/",
        headers: { ...headers, ...(authorization && { authorization }) },
      })),
    ),
  );
  const lines = ({ host, method, path, headers: sent }: (typeof requests)[number]) =>
    http(method, path, { host, ...sent }, method === "POST" ? call : "");

  const checks = requests.flatMap(({ host, method, path, headers: sent }) => {
    const pseudo = { ":authority": host, ":path": path, ":method": method, ":scheme": "https" };
    const pairs = Object.entries({ ...pseudo, ...sent });
    const common = { method, host, path, protocol: "HTTP/2", raw_body: Buffer.from(call) };
    const raw = pairs.map(([key, value]) => ({ key, raw_value: Buffer.from(value) }));
    return [
      { ...common, headers: Object.fromEntries(pairs) },
      { ...common, header_map: { headers: raw } },
    ].map((one) => ({
      attributes: {
        request: { http: one, time: { seconds: 1_700_000_000 } },
        source: { address: { socket_address: { address: "192.0.2.1", port_value: 1 } } },
        context_extensions: { route: host.split(".")[0] },
      },
    }));
  });
  const metadata = {
    filter_metadata: {
      "envoy.filters.http.ext_authz": {
        fields: Object.fromEntries(
          Object.entries({
            route: "everything",
            user: "company/alice",
            client: clientId,
            connection: "c",
            path: "/",
            request_id: "r-1",
            tool_filter: "[]",
          }).map(([name, stringValue]) => [name, { stringValue }]),
        ),
      },
    },
  };
  const processing = [401, 403, 200].flatMap((status) => [
    {
      response_headers: {
        headers: {
          headers: [
            { key: ":status", raw_value: Buffer.from(String(status)) },
            {
              key: "www-authenticate",
              raw_value: Buffer.from(
                'Bearer error="insufficient_scope", scope="a b", resource_metadata="https://x.test/.well-known/oauth-protected-resource"',
              ),
            },
            { key: "content-type", raw_value: Buffer.from("application/json") },
          ],
        },
      },
      metadata_context: metadata,
    },
    { response_body: { body: Buffer.from('{"jsonrpc":"2.0"}'), end_of_stream: true } },
    { request_headers: { headers: { headers: [{ key: ":path", value: "/" }] } } },
  ]);

  const query = new URLSearchParams({
    response_type: "code",
    client_id: clientId,
    redirect_uri: redirectUri,
    state: "s",
    scope: "mcp",
    code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    code_challenge_method: "S256",
    resource: "https://open.test",
  });
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const at = (host: string, method: string, path: string, more: object = {}, body = "") =>
    http(method, path, { host, accept: "*/*", ...more }, body);
  const own = [
    at("auth.test", "GET", `/oauth/authorize?${query}`),
    at("auth.test", "GET", `/oauth/authorize?${query}`, { accept: "text/html", cookie: headers.cookie }),
    at(
      "auth.test",
      "POST",
      "/oauth/token",
      form,
      `grant_type=authorization_code&code=x&client_id=${clientId}&code_verifier=y&redirect_uri=z`,
    ),
    at(
      "auth.test",
      "POST",
      "/oauth/token",
      { ...form, authorization: "Basic eDp5" },
      "grant_type=refresh_token&refresh_token=x",
    ),
    at(
      "auth.test",
      "POST",
      "/oauth/register",
      { "content-type": "application/json" },
      JSON.stringify({ redirect_uris: [redirectUri], client_name: "f", token_endpoint_auth_method: "none" }),
    ),
    at("auth.test", "POST", "/oauth/revoke", form, `token=${forged}&client_id=${clientId}`),
    at("auth.test", "POST", "/oauth/introspect", form, `token=${forged}&client_id=${clientId}`),
    at("auth.test", "GET", "/oauth/interaction/abc", { cookie: "__Secure-mcp_as_interaction=abc" }),
    at(
      "auth.test",
      "POST",
      "/oauth/interaction/abc",
      { ...form, origin: "https://auth.test" },
      "decision=allow",
    ),
    at("auth.test", "GET", "/.pomerium/sign_in?return_to=/x"),
    at("auth.test", "GET", "/.pomerium/sign_in/callback?code=a&state=b&iss=c", {
      cookie: "__Host-mcp_sign_in=x",
    }),
    at("everything.test", "GET", "/.pomerium/sign_in/complete?code=a"),
    at("auth.test", "GET", "/.pomerium/sign_in/handover?host=everything.test&return_to=/&nonce=n"),
    at(
      "everything.test",
      "GET",
      "/.pomerium/mcp/connect?redirect_url=https://everything.test/&route=everything",
    ),
    at("everything.test", "GET", "/.pomerium/mcp/client/oauth/callback?code=a&state=b&iss=c"),
    at("everything.test", "GET", "/.pomerium/mcp/client/metadata.json"),
    at("everything.test", "GET", "/.pomerium/mcp/routes", { authorization: `Bearer ${forged}` }),
    at(
      "everything.test",
      "POST",
      "/.pomerium/mcp/routes/disconnect",
      { "content-type": "application/json", authorization: `Bearer ${forged}` },
      '{"routes":["https://everything.test"]}',
    ),
    at("open.test", "GET", "/.well-known/oauth-protected-resource/mcp"),
    at("auth.test", "GET", "/.well-known/oauth-authorization-server"),
    at("open.test", "GET", "/.well-known/pomerium/jwks.json"),
    at("auth.test", "OPTIONS", "/oauth/token", {
      origin: "https://x.test",
      "access-control-request-method": "POST",
    }),
    at("auth.test", "POST", "/.pomerium/sign_in/backchannel_logout", form, `logout_token=${forged}`),
  ];
  return { checks, processing, calls: [...requests.map(lines), ...own], own };
}

function http(method: string, path: string, headers: object, body: string): Buffer {
  const fields = Object.entries({ ...headers, ...(body && { "content-length": Buffer.byteLength(body) }) });
  const head = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${head}\r\n${body}`);
}
