import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { doctor } from "../../src/admin/doctor.ts";
import { failureWords, readFailureCode } from "../../src/upstream-oauth/failure.ts";
import { legacyServer } from "../upstream-oauth/scripted-server.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type ClientHouse, startClient } from "../upstream-oauth/start-client.ts";
import { discoveryFaults, documentedFaults, type Fault, prm, quoted } from "./discovery-faults.ts";

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
interface FaultOfFlow extends Fault {
  /** Of the gateway, YAML. */
  readonly settings?: string;
  /** What shows it, where beginning a connection does not. */
  readonly flow?: () => Promise<unknown>;
}
const faults: Record<string, FaultOfFlow> = {
  ...discoveryFaults,
  upstream_endpoint_elsewhere: {
    arrange: (upstream) => {
      for (const path of [`${prm}/mcp`, "/.well-known/oauth-authorization-server"]) upstream.off(path);
      upstream.on("/mcp", legacyServer("https://elsewhere.test/messages"));
    },
    flow: () => house.oauth.prepare(route(), house.routes()),
  },
  metadata_domain_not_allowed: {
    settings:
      "upstream_oauth: {allowed_private_hosts: [127.0.0.1], allowed_as_metadata_domains: ['*.company.test']}",
  },
  credential_missing: { server: "{upstream_auth: none}", flow: refusedCall },
  credential_refused: {
    server: "{upstream_auth: {api_key: {header: x-api-key, value: k}}}",
    flow: refusedCall,
  },
  client_refused: {
    arrange: (upstream) => upstream.on("/token", { status: 401, body: { error: "invalid_client" } }),
    flow: () => house.connect((location) => upstream.agree(location), alice, id()).catch(() => {}),
    unseen: true,
  },
  token_endpoint_unusable: {
    arrange: (upstream) => upstream.off("/token"),
    flow: () => house.connect((location) => upstream.agree(location), alice, id()).catch(() => {}),
  },
  key_unusable: {
    server:
      "{upstream_auth: {client_credentials: {client_id: c, token_url: 'https://as.test/token', workload_identity_file: /nowhere/jwt}}}",
    flow: () => house.oauth.grant(route(), { userId: alice }),
  },
};

describe("a fault of an upstream, or of how it is configured, is named as what it is", () => {
  it.each(Object.entries(faults))(
    "%s",
    async (code, { server = "{}", to, settings, arrange, flow, unseen }) => {
      const row = documentedFaults.get(code);
      if (!row) throw new Error(`docs/troubleshooting.md says nothing of ${code}`);
      arrange?.(upstream);
      await house.reconfigure(
        `  - {id: ${id()}, from: https://mcp.test, to: "${to ?? upstream.mcp}", mcp: {server: ${server}}}`,
        settings,
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
      for (const phrase of quoted(row.advice)) expect(text).toContain(phrase);
    },
  );

  it("every row of the table is tried here", () => {
    expect([...documentedFaults.keys()].filter((code) => !(code in faults))).toEqual([]);
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
