import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ScriptedServer, scriptedServer } from "../upstream-oauth/scripted-server.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type ClientHouse, startClient } from "../upstream-oauth/start-client.ts";

const prm = "/.well-known/oauth-protected-resource";

let upstream: ScriptedUpstream;
let elsewhere: ScriptedServer;
let house: ClientHouse;
beforeEach(async () => {
  upstream = await scriptedUpstream();
  elsewhere = await scriptedServer();
  house = await startClient(route());
});
afterEach(async () => {
  await Promise.all([upstream.close(), elsewhere.close(), house.close()]);
});
const route = (server = "{}") =>
  `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: ${server}}}`;
const begin = () =>
  house.oauth.begin({ userId: alice, route: house.route(), returnTo: "https://mcp.test/done" });
const begun = async () => {
  const first = await begin();
  const asked = { userId: alice, route: house.route(), returnTo: "https://mcp.test/done" };
  const result =
    !first.ok && first.notice ? await house.oauth.begin({ ...asked, shown: first.notice }) : first;
  if (!result.ok) throw new Error(`${result.code}: ${result.message}`);
  return new URL(result.location);
};
const failure = async () => {
  const result = await begin();
  if (result.ok) throw new Error(`went to ${result.location}`);
  return result;
};
const connect = (extra: Record<string, string> = {}) =>
  house.connect((location) => upstream.agree(location, extra));

it.each(["authorization_endpoint", "token_endpoint"])(
  "metadata without %s is named as what it is",
  async (name) => {
    for (const value of [null, "", 7, "/relative"]) {
      upstream.metadata[name] = value;
      house.oauth.forget(house.route());
      const { code, message } = await failure();
      expect(code).toBe("metadata_invalid");
      expect(message).toContain(name.replace("_", " ").slice(0, 5));
    }
  },
);

describe("metadata as authorization servers write it", () => {
  it.each([null, "", 7, false, {}, "none"])("registration_endpoint: %j is as if absent", async (value) => {
    upstream.metadata.registration_endpoint = value;
    expect((await failure()).code).toBe("registration_unavailable");
    upstream.clients.add("by-hand");
    await house.reconfigure(route("{upstream_oauth2: {client_id: by-hand, client_secret: s}}"));
    await connect();
  });

  it("every optional member may be null, empty or of another type, and a list may be text", async () => {
    Object.assign(upstream.metadata, {
      revocation_endpoint: null,
      introspection_endpoint: "",
      end_session_endpoint: "/logout",
      jwks_uri: null,
      userinfo_endpoint: 0,
      scopes_supported: "offline_access read,write",
      response_types_supported: null,
      grant_types_supported: "authorization_code refresh_token",
      token_endpoint_auth_methods_supported: "client_secret_post",
      token_endpoint_auth_signing_alg_values_supported: null,
      authorization_response_iss_parameter_supported: null,
      client_id_metadata_document_supported: null,
      dpop_signing_alg_values_supported: null,
      ui_locales_supported: null,
      service_documentation: {},
      unheard_of: { deep: [null] },
    });
    upstream.on(`${prm}/mcp`, {
      body: {
        resource: upstream.mcp,
        authorization_servers: upstream.url,
        scopes_supported: "read, write",
        dpop_bound_access_tokens_required: null,
        resource_name: null,
        jwks_uri: "",
        bearer_methods_supported: "header",
      },
    });
    const location = await begun();
    expect(location.searchParams.get("scope")?.split(" ")).toEqual(["read", "write", "offline_access"]);
    expect(upstream.registered[0]?.body.token_endpoint_auth_method).toBe("client_secret_post");
    await connect();
  });

  it.each([null, "", [], {}])(
    "token_endpoint_auth_methods_supported: %j means RFC 8414's default, never none",
    async (value) => {
      upstream.metadata.token_endpoint_auth_methods_supported = value;
      await begun();
      expect(upstream.registered[0]?.body.token_endpoint_auth_method).toBe("client_secret_basic");
    },
  );

  it.each([null, "", "S256", { S256: true }, ["s256"], [["S256"]]])(
    "code_challenge_methods_supported: %j is no PKCE",
    async (value) => {
      upstream.metadata.code_challenge_methods_supported = value;
      expect((await failure()).code).toBe("pkce_not_supported");
    },
  );

  it.each([null, "", ["x"], 7])("metadata whose issuer is %j is no metadata", async (issuer) => {
    upstream.metadata.issuer = Array.isArray(issuer) ? [upstream.url] : issuer;
    expect((await failure()).code).toBe("discovery_failed");
  });

  it.each([null, "", "authorization_servers"])(
    "resource metadata with authorization_servers %j leaves the origin",
    async (value) => {
      const authorization_servers = value === "authorization_servers" ? { issuer: "x" } : value;
      upstream.on(`${prm}/mcp`, { body: { resource: upstream.mcp, authorization_servers } });
      expect((await begun()).origin).toBe(upstream.url);
    },
  );
});
