import { parse } from "node-html-parser";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { doctorReport } from "../../src/upstream-oauth/doctor-report.ts";
import { type McpApp, onTheWeb, registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import type { HttpBrowser } from "../support/http-browser.ts";
import { legacyServer, type Seen } from "../upstream-oauth/scripted-server.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { discoveryFaults, documentedFaults, type Fault, prm, quoted } from "./discovery-faults.ts";

const alice = "company/alice";
/** Its user consents without being asked. */
const agreeing =
  (upstream: ScriptedUpstream) =>
  ({ query }: Pick<Seen, "query">) => {
    const back = new URL(query.get("redirect_uri") ?? "");
    back.search = String(upstream.agree(`${upstream.url}/authorize?${query}`));
    return { status: 302, headers: { location: back.href } };
  };
let upstream: ScriptedUpstream;
let stack: AuthorizationServerStack;
let app: McpApp;
/** Alice's browser, signed in since the first authorization. */
let browser: HttpBrowser;
let count = 0;
const usualSettings = "upstream_oauth: {allowed_private_hosts: [127.0.0.1], timeout: 3s}";
const elsewhere =
  "  - {id: elsewhere, from: https://elsewhere.test, to: https://to.elsewhere.test, policy: [{allow: {and: [{accept: true}]}}], mcp: {server: {authorization_server_url: 'https://id.test'}}}";
beforeAll(async () => {
  stack = await startAuthorizationServer(usualSettings, { upstreams: true });
  app = await registeredApp(stack, onTheWeb);
  browser = stack.browser();
});
afterAll(() => stack?.close());
beforeEach(async () => {
  upstream = await scriptedUpstream();
  upstream.on("/authorize", agreeing(upstream));
  count += 1;
});
afterEach(() => upstream.close());
const id = () => `fault-${count}`;
const from = () => `https://${id()}.test`;
const route = () => {
  const found = stack.routes().byId(id());
  if (!found) throw new Error(`no route ${id()}`);
  return found;
};
let settings = usualSettings;
let routes = "";
/** The only route of a test, and the gateway's settings. */
const reconfigure = ({ server = "{}", to = upstream.mcp, settings: wanted = usualSettings }) =>
  stack.reload((yaml) => {
    const added = `  - {id: ${id()}, name: Files, from: ${from()}, to: "${to}", policy: [{allow: {and: [{accept: true}]}}], mcp: {server: ${server}}}\n${elsewhere}\n`;
    const changed = yaml.replace(settings, wanted).replace(routes, "") + added;
    [settings, routes] = [wanted, added];
    return changed;
  });
/** Whether a later attempt may succeed. */
const passing = new Set(["unreachable", "server_error"]);
/** The error for the MCP client at the end of alice's authorization. */
const authorize = async () => (await app.authorize(browser, "alice", { resource: from() })).params;
/** The message for alice when she connects the server from the portal. */
async function connectInPortal(): Promise<string> {
  const returnTo = `https://auth.test/.pomerium/routes?connected=${id()}`;
  const query = new URLSearchParams({ route: id(), redirect_url: returnTo });
  const asked = await browser.open(`${from()}/.pomerium/mcp/connect?${query}`);
  const isQuestion = asked.url.pathname.endsWith("/connect/confirm");
  const { html } = isQuestion ? await browser.submit(asked, {}, "decision=allow") : asked;
  return parse(html).querySelector(".note.warn")?.text ?? html;
}
const refusedCall = () =>
  stack.upstreamTokens.handleRejection({
    userId: alice,
    routeId: id(),
    version: undefined,
    status: 401,
    wwwAuthenticate: "",
  });
interface FaultOfFlow extends Fault {
  /** Settings of the gateway, YAML. */
  readonly settings?: string;
  /** How it is reported if an authorization succeeds anyway; for a rejected call, the response to the client. */
  readonly flow?: () => Promise<unknown>;
  /** The client's OAuth error, if it differs from that of permanent or transient faults. */
  readonly error?: string;
  /** The server named in the message to the client. */
  readonly answered?: string;
}
/** The upstream names this one as its authorization server. */
const authorizationServer = (url: string) => (upstream: ScriptedUpstream) =>
  upstream.on(`${prm}/mcp`, { body: { resource: upstream.mcp, authorization_servers: [url] } });
const failing =
  (...paths: string[]) =>
  (upstream: ScriptedUpstream) => {
    for (const path of paths) upstream.on(path, { status: 503 });
  };
const faults: Record<string, FaultOfFlow> = {
  ...discoveryFaults,
  unreachable: { arrange: authorizationServer("http://127.0.0.1:1") },
  server_error: {
    arrange: failing(
      ...["oauth-authorization-server", "openid-configuration"].map((one) => `/.well-known/${one}`),
    ),
    answered: "503",
  },
  not_an_mcp_server: {
    ...discoveryFaults.not_an_mcp_server,
    flow: () => stack.upstreamOAuth.begin(wish()),
  },
  redirect_not_followed: { ...discoveryFaults.redirect_not_followed, answered: "302" },
  registration_rejected: { ...discoveryFaults.registration_rejected, answered: "403" },
  upstream_endpoint_elsewhere: {
    arrange: (upstream) => {
      for (const path of [`${prm}/mcp`, "/.well-known/oauth-authorization-server"]) upstream.off(path);
      upstream.on("/mcp", legacyServer("https://elsewhere.test/messages"));
    },
    flow: () => stack.upstreamOAuth.prepare(route(), stack.routes()),
  },
  metadata_domain_not_allowed: {
    settings:
      "upstream_oauth: {allowed_private_hosts: [127.0.0.1], allowed_as_metadata_domains: ['*.company.test']}",
  },
  credential_missing: { server: "{upstream_auth: none}", flow: refusedCall },
  credential_rejected: {
    server: "{upstream_auth: {api_key: {header: x-api-key, value: k}}}",
    flow: refusedCall,
  },
  client_rejected: {
    arrange: (upstream) => upstream.on("/token", { status: 401, body: { error: "invalid_client" } }),
    answered: "401 invalid_client",
    unseen: true,
  },
  token_endpoint_unusable: { arrange: (upstream) => upstream.off("/token"), answered: "404" },
  disconnected_during_authorization: {
    arrange: (upstream) => {
      const back = agreeing(upstream);
      upstream.on("/authorize", async (seen) => {
        await stack.upstreamTokens.disconnect(alice, route());
        return back(seen);
      });
    },
    error: "access_denied",
    unseen: true,
  },
  key_unusable: {
    server:
      "{upstream_auth: {client_credentials: {client_id: c, token_url: 'https://as.test/token', workload_identity_file: /nowhere/jwt}}}",
  },
};
const wish = () => ({ userId: alice, route: route(), returnTo: `${from()}/.pomerium/routes` });

describe("a fault of an upstream, or of its configuration, is reported as such", () => {
  it.each(Object.entries(faults))(
    "%s: to the MCP client at the end of its authorization, to the user, in the log and by doctor",
    async (code, { arrange, flow, answered, unseen, error, ...configured }) => {
      const row = documentedFaults.get(code);
      if (!row) throw new Error(`docs/troubleshooting.md says nothing of ${code}`);
      arrange?.(upstream);
      await reconfigure(configured);
      stack.log.length = 0;
      const ended = await authorize();
      if (flow) {
        expect(ended.get("code"), String(ended)).toBeTruthy();
        const outcome = JSON.stringify(await flow()) ?? "";
        // The log line about a rejected call has the words in its outcome.
        stack.log.push(outcome);
        if (flow === refusedCall) expect(outcome).toContain(row.words.replace("it ", "the server "));
      } else {
        const usual = passing.has(code) ? "temporarily_unavailable" : "server_error";
        expect(ended.get("error")).toBe(error ?? usual);
        // It responds at the host of `to`, which is not revealed to the client.
        const facts = answered === undefined ? code : `${code}; the server answered ${answered}`;
        const [described] = (ended.get("error_description") ?? "").split("; the operator of this gateway");
        expect(described).toBe(
          `the server behind this route could not be connected: ${row.words} (${facts})`,
        );
      }
      const logged = stack.log.filter((line) => flow || line.includes(`"reason":"${code}"`)).join("\n");
      expect(
        quoted(row.log).filter((phrase) => logged.includes(phrase)),
        logged || stack.log.join("\n"),
      ).not.toEqual([]);
      if (!flow) expect(await connectInPortal()).toBe(`Files was not connected: ${row.words} (${code}).`);

      let output = "";
      const report = await doctorReport(route(), {
        discover: stack.upstreamOAuth.discover,
        redirectUri: "https://mcp.test/callback",
        write: (text) => {
          output += text;
        },
      });
      // Its lines are wrapped.
      const text = output.replace(/\s+/g, " ");
      if (unseen) return;
      expect(report).toMatchObject({ usable: false, error: { what_to_do: expect.any(String) } });
      expect(text).not.toContain("Nothing to do");
      expect(text).toContain(`(${code})`);
      for (const phrase of quoted(row.advice)) expect(text).toContain(phrase);
    },
  );

  it.each<[string, Fault, RegExp]>([
    ["cannot be reached", { to: "http://127.0.0.1:1/mcp" }, /"reason":"unreachable".*could not be reached/],
    ["answers 5xx", discoveryFaults.server_error ?? {}, /fails \(503\)/],
    ["is not an MCP server", discoveryFaults.not_an_mcp_server ?? {}, /is not an MCP endpoint \(404\)/],
  ])("an authorization succeeds although the upstream %s, and the log says so", async (_, fault, line) => {
    fault.arrange?.(upstream);
    await reconfigure(fault);
    stack.log.length = 0;
    const ended = await authorize();
    expect(ended.get("code"), String(ended)).toBeTruthy();
    expect(stack.log.join("\n")).toMatch(line);
  });

  it("metadata of another resource is the fault even if the server itself requires no token", async () => {
    const words = `${documentedFaults.get("resource_mismatch")?.words} (resource_mismatch)`;
    upstream.off("/mcp");
    upstream.on(`${prm}/mcp`, { body: { resource: "https://other.test/mcp" } });
    await reconfigure({});
    const ended = await authorize();
    expect([ended.get("error"), ended.get("error_description")]).toEqual([
      "server_error",
      expect.stringContaining(words),
    ]);
    expect(await connectInPortal()).toContain(words);
    expect(await stack.upstreamTokens.find({ userId: alice, kind: "person" }, route())).toMatchObject({
      kind: "unavailable",
      reason: "resource_mismatch",
    });
  });

  it("every row of the table is tested here", () => {
    expect([...documentedFaults.keys()].filter((code) => !(code in faults))).toEqual([]);
  });

  it("with upstream_auth: none, a 401 does not mention a configured credential", async () => {
    await reconfigure({ server: "{upstream_auth: none}" });
    const outcome = await refusedCall();
    expect(outcome).toMatchObject({ kind: "give_up", status: 502, reason: "credential_missing" });
    expect(JSON.stringify(outcome)).toContain("none is configured");
  });

  it("a parent resource is not a fault: doctor shows it, and that `exact` would reject it", async () => {
    upstream.on(`${prm}/mcp`, { body: { resource: upstream.url, authorization_servers: [upstream.url] } });
    await reconfigure({});
    let output = "";
    const write = (text: string) => {
      output += text;
    };
    const deps = {
      discover: stack.upstreamOAuth.discover,
      redirectUri: "https://mcp.test/callback",
      write,
    };
    expect((await doctorReport(route(), deps)).usable).toBe(true);
    expect(output.replace(/\s+/g, " ")).toContain("mcp.server.resource: exact rejects that");
    expect(output).not.toContain("Nothing to do");
    // Nor is unusable metadata that a challenge names, if the well-known URLs have it.
    upstream.on("/mcp", { status: 401, headers: { "www-authenticate": 'Bearer resource_metadata="/gone"' } });
    output = "";
    expect((await doctorReport(route(), deps)).usable).toBe(true);
    expect(output.replace(/\s+/g, " ")).toContain("that the server's challenge names is not usable");
  });
});
