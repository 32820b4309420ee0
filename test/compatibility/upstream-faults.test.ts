import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { doctor } from "../../src/admin/doctor.ts";
import { failureWords, readFailureCode } from "../../src/upstream-oauth/failure.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type ClientHouse, startClient } from "../upstream-oauth/start-client.ts";

const prm = "/.well-known/oauth-protected-resource";
const rfc8414 = "/.well-known/oauth-authorization-server";
const oidc = "/.well-known/openid-configuration";

/** The rows of the table in docs/troubleshooting.md, by fault. */
const page = readFileSync(join(import.meta.dirname, "../../docs/troubleshooting.md"), "utf8");
const section = /^### Faults of an upstream$(.*?)^## /ms.exec(page)?.[1] ?? "";
const rows = new Map(
  [...section.matchAll(/^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$/gm)].map(
    ([, code = "", when = "", words = "", log = "", advice = ""]) => [code, { when, words, log, advice }],
  ),
);
const quoted = (cell: string) => [...cell.matchAll(/`((?:\\`|[^`])+)`/g)].map(([, text = ""]) => text);

interface Fault {
  /** `mcp.server` of the route. */
  readonly server?: string;
  readonly to?: string;
  /** What is wrong at the upstream. */
  readonly arrange?: () => void;
  /** What shows it, where beginning a connection does not. */
  readonly flow?: () => Promise<unknown>;
  /** `doctor` leaves nothing behind, and so cannot see it. */
  readonly unseen?: true;
}

let upstream: ScriptedUpstream;
let house: ClientHouse;
let count = 0;
beforeAll(async () => {
  house = await startClient(
    "  - {id: first, from: https://mcp.test, to: https://first.test, mcp: {server: {}}}",
  );
});
afterAll(() => house?.close());
beforeEach(async () => {
  upstream = await scriptedUpstream();
  count += 1;
});
afterEach(() => upstream.close());
const id = () => `fault-${count}`;
const route = () => house.route(id());
const begin = async () => {
  const asked = { userId: alice, route: route(), returnTo: "https://mcp.test/done" };
  const first = await house.oauth.begin(asked);
  return !first.ok && first.notice ? house.oauth.begin({ ...asked, shown: first.notice }) : first;
};
const refusedCall = () =>
  house.tokens.upstreamRefused({
    userId: alice,
    routeId: id(),
    version: undefined,
    status: 401,
    wwwAuthenticate: "",
  });
const withoutMetadata = () => {
  for (const path of [`${prm}/mcp`, rfc8414]) upstream.off(path);
};

const faults: Record<string, Fault> = {
  unreachable: { to: "http://127.0.0.1:1/mcp" },
  server_error: {
    arrange: () => {
      upstream.off(`${prm}/mcp`);
      upstream.on("/mcp", { status: 503 });
      for (const path of [rfc8414, oidc]) upstream.on(path, { status: 503 });
    },
  },
  not_an_mcp_server: {
    arrange: () => {
      withoutMetadata();
      upstream.off("/mcp");
    },
  },
  credential_missing: { server: "{upstream_auth: none}", flow: refusedCall },
  credential_refused: {
    server: "{upstream_auth: {api_key: {header: x-api-key, value: k}}}",
    flow: refusedCall,
  },
  discovery_failed: {
    arrange: () => {
      withoutMetadata();
      upstream.on("/mcp", { status: 401 });
      for (const path of ["/register", "/token"]) upstream.off(path);
    },
  },
  resource_mismatch: {
    arrange: () => upstream.on(`${prm}/mcp`, { body: { resource: "https://other.test/mcp" } }),
  },
  metadata_invalid: {
    arrange: () => {
      upstream.metadata.token_endpoint = null;
    },
  },
  issuer_mismatch: {
    arrange: () => {
      upstream.metadata.issuer = "https://login.other.test";
    },
  },
  issuer_changed: {
    server:
      '{authorization_server_url: "https://as.test", upstream_oauth2: {client_id: c, client_secret: s}}',
  },
  issuer_of_other_route: {
    server: '{expected_issuer: "https://id.test"}',
    arrange: () => {
      upstream.metadata.issuer = "https://id.test";
    },
  },
  endpoint_not_allowed: {
    arrange: () =>
      upstream.on(`${prm}/mcp`, {
        body: { resource: upstream.mcp, authorization_servers: ["https://10.0.0.7"] },
      }),
  },
  redirect_refused: {
    arrange: () => {
      for (const path of [rfc8414, oidc])
        upstream.on(path, { status: 302, headers: { location: "https://elsewhere.test/" } });
    },
  },
  response_too_large: {
    arrange: () => {
      for (const path of [rfc8414, oidc]) upstream.on(path, { body: "x".repeat(2 * 1024 * 1024) });
    },
  },
  pkce_not_supported: {
    arrange: () => {
      upstream.metadata.code_challenge_methods_supported = null;
    },
  },
  registration_unavailable: {
    arrange: () => {
      upstream.metadata.registration_endpoint = null;
    },
  },
  registration_refused: { arrange: () => upstream.on("/register", { status: 403 }), unseen: true },
  client_refused: {
    arrange: () => upstream.on("/token", { status: 401, body: { error: "invalid_client" } }),
    flow: () => house.connect((location) => upstream.agree(location), alice, id()).catch(() => {}),
    unseen: true,
  },
  token_endpoint_unusable: {
    arrange: () => upstream.off("/token"),
    flow: () => house.connect((location) => upstream.agree(location), alice, id()).catch(() => {}),
  },
  key_unusable: {
    server:
      "{upstream_auth: {client_credentials: {client_id: c, token_url: 'https://as.test/token', workload_identity_file: /nowhere/jwt}}}",
    flow: () => house.oauth.grant(route(), { userId: alice }),
  },
};

describe("a fault of an upstream, or of how it is configured, is named as what it is", () => {
  it.each(Object.entries(faults))("%s", async (code, { server = "{}", to, arrange, flow, unseen }) => {
    const row = rows.get(code);
    if (!row) throw new Error(`docs/troubleshooting.md says nothing of ${code}`);
    arrange?.();
    await house.reconfigure(
      `  - {id: ${id()}, from: https://mcp.test, to: "${to ?? upstream.mcp}", mcp: {server: ${server}}}`,
    );
    const known = readFailureCode(code);
    expect(known && failureWords[known]).toBe(row.words);
    house.log.length = 0;
    if (flow) {
      // What the gateway's log says of a refused call, the outcome says here.
      house.log.push(JSON.stringify(await flow()) ?? "");
    } else {
      expect(await begin()).toMatchObject({ ok: false, code });
    }
    const logged = house.log.join("\n");
    expect(
      quoted(row.log).filter((phrase) => logged.includes(phrase)),
      logged,
    ).not.toEqual([]);

    let told = "";
    const isWell = await doctor(route(), {
      discover: house.oauth.discover,
      redirectUri: "https://mcp.test/callback",
      write: (text) => {
        told += text;
      },
    });
    // Its lines are wrapped.
    const text = told.replace(/\s+/g, " ");
    if (unseen) return;
    expect(isWell).toBe(false);
    expect(text).not.toContain("Nothing to do");
    expect(text).toContain(`(${code})`);
    for (const phrase of quoted(row.advice)) expect(text).toContain(phrase.replaceAll("\\`", "`"));
  });

  it("every row of the table is tried here or with settings of its own", () => {
    expect([...rows.keys()].filter((code) => !(code in faults))).toEqual(["metadata_domain_not_allowed"]);
  });

  it("with upstream_auth: none a 401 speaks of no credential that is configured", async () => {
    await house.reconfigure(
      `  - {id: ${id()}, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {upstream_auth: none}}}`,
    );
    const outcome = await refusedCall();
    expect(outcome).toMatchObject({ kind: "give_up", status: 502, reason: "credential_missing" });
    expect(JSON.stringify(outcome)).toContain("none is configured");
  });

  it("a parent resource is no fault: doctor shows it, and that exact would refuse it", async () => {
    upstream.on(`${prm}/mcp`, { body: { resource: upstream.url, authorization_servers: [upstream.url] } });
    await house.reconfigure(
      `  - {id: ${id()}, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}`,
    );
    let told = "";
    const write = (text: string) => {
      told += text;
    };
    const deps = { discover: house.oauth.discover, redirectUri: "https://mcp.test/callback", write };
    expect(await doctor(route(), deps)).toBe(true);
    expect(told.replace(/\s+/g, " ")).toContain("mcp.server.resource: exact refuses that");
    expect(told).not.toContain("Nothing to do");
    // So is metadata that a challenge names in vain, where the well-known places have it.
    upstream.on("/mcp", { status: 401, headers: { "www-authenticate": 'Bearer resource_metadata="/gone"' } });
    told = "";
    expect(await doctor(route(), deps)).toBe(true);
    expect(told.replace(/\s+/g, " ")).toContain("that the server's challenge names is of no use");
  });
});
