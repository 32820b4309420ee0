import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { programFile } from "../../dev/demo/sidecar.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { createRouteTable } from "../../src/config/route-table.ts";
import { mcpAnswerHeaders } from "../../src/envoy-config/routes.ts";
import { configFile } from "../config/config-file.ts";
import { removedWithoutResponsePath } from "../support/without-response-path.ts";
import { manifestsIn } from "./manifests.ts";
import { validateManifest } from "./validate-manifest.ts";

const kubernetes = join(import.meta.dirname, "../../deploy/kubernetes");
const text = (sample: string) => readFileSync(join(kubernetes, sample), "utf8");
const manifests = (sample: string) => manifestsIn(text(sample));
const specs = (sample: string, kind: string): { readonly [key: string]: unknown }[] =>
  manifests(sample)
    .filter((one) => one.kind === kind)
    .map(({ spec }) => Object(spec));

const samples = ["contour.yaml", "emissary.yaml", "kgateway.yaml"];
const file = configFile(`issuer: https://mcp.example.com
listen: {envoy_secret: an-envoy-secret-that-is-long-enough-1}
sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}
envoy: {response_path: false, tls: {terminated_by: 127.0.0.1}}
routes:
  - id: notes
    from: https://notes.example.com/mcp
    to: https://notes.vendor.example/mcp
    mcp: {server: {}}
    policy: [{allow: {and: [{mcp_tool: {starts_with: read_}}]}}]
`);
const secret = { envoy_secret: `\${ENVOY_SECRET}` };

/** A route of a sample: whether it is checked, with which context, and where its requests go. */
interface Entry {
  readonly host: string;
  readonly matches: (path: string) => boolean;
  readonly checked: boolean;
  readonly context?: Record<string, string>;
  readonly toSidecar: boolean;
  readonly sendsSecret: boolean;
  readonly removes: readonly string[];
}

const whole = (regex: string) => new RegExp(`^(?:${regex})$`);

function contourEntries(): Entry[] {
  return specs("contour.yaml", "HTTPProxy").flatMap(({ virtualhost, routes }) => {
    const { fqdn, authorization } = Object(virtualhost);
    return [...Object(routes)].map((route): Entry => {
      const {
        conditions,
        authPolicy = {},
        services,
        requestHeadersPolicy,
        responseHeadersPolicy,
      } = Object(route);
      const [{ regex, exact, prefix }] = conditions;
      return {
        host: fqdn,
        matches: (path) =>
          regex ? whole(regex).test(path) : exact === undefined ? path.startsWith(prefix) : path === exact,
        checked: authPolicy.disabled !== true,
        context: { ...authorization.authPolicy.context, ...authPolicy.context },
        toSidecar: services[0].name === "gateway-envoy-mcp-auth",
        sendsSecret: JSON.stringify(requestHeadersPolicy ?? {}).includes("x-mcp-auth-secret"),
        removes: responseHeadersPolicy?.remove ?? [],
      };
    });
  });
}

function emissaryEntries(): Entry[] {
  return specs("emissary.yaml", "Mapping").map((mapping): Entry => {
    const prefix = String(mapping.prefix);
    return {
      host: String(mapping.hostname),
      matches: (path) =>
        mapping.prefix_regex
          ? whole(prefix).test(path)
          : mapping.prefix_exact
            ? path === prefix
            : path.startsWith(prefix),
      checked: mapping.bypass_auth !== true,
      context: Object(mapping.auth_context_extensions),
      toSidecar: String(mapping.service).includes("gateway-envoy-mcp-auth"),
      sendsSecret: "x-mcp-auth-secret" in Object(mapping.add_request_headers),
      removes: Object(mapping.remove_response_headers),
    };
  });
}

const entriesOf = { "contour.yaml": contourEntries, "emissary.yaml": emissaryEntries };

describe("samples for Contour, kgateway and Emissary", () => {
  it.each(samples)("%s matches the schemas of its kinds, without unknown fields", (sample) => {
    const all = manifests(sample);
    expect(all.length).toBeGreaterThan(3);
    for (const manifest of all) validateManifest(manifest);
  });

  it.each(samples)("%s: a field that its ingress does not know is found", (sample) => {
    for (const manifest of manifests(sample)) {
      if (/^(v1|gateway\.networking\.k8s\.io)/.test(manifest.apiVersion)) continue;
      const spec = { ...Object(manifest.spec), unknown: 1 };
      const free = manifest.kind === "Module";
      if (!free) expect(() => validateManifest({ ...manifest, spec }), manifest.kind).toThrow("unknown");
    }
  });

  it("have the context that `envoy-config --format context` prints", async () => {
    const line = [programFile, "envoy-config", "--config", file, "--format", "context"];
    const { stdout } = await promisify(execFile)(process.execPath, line);
    const { notes } = parse(stdout);
    expect(notes).toEqual({
      route: "notes",
      upstream: expect.stringMatching(/^[0-9a-f]{16}$/),
      body: "inspected",
    });
    const withSecret = { ...notes, ...secret };
    const contexts = Object.values(entriesOf)
      .flatMap((entries) => entries())
      .filter(({ toSidecar }) => !toSidecar)
      .map(({ context }) => context);
    expect(contexts).toEqual([withSecret, withSecret, withSecret, withSecret]);
    expect(Object(specs("kgateway.yaml", "TrafficPolicy")[0]?.extAuth).contextExtensions).toEqual(withSecret);
  });

  it.each(samples)("%s fails closed, and sends a body that is longer than policy reads", (sample) => {
    expect(text(sample)).not.toMatch(/failOpen: true|failure_mode_allow: true|allow_?partial\w*: true/i);
    expect(text(sample)).toMatch(/failOpen: false|failure_mode_allow: false/);
    expect(text(sample)).toMatch(/max(Request)?_?bytes: 1048577/i);
  });

  it("kgateway.yaml: a failing response filter does not pass responses on", () => {
    const processors = specs("kgateway.yaml", "GatewayExtension").flatMap(({ extProc }) => extProc ?? []);
    expect(processors).toMatchObject([{ failOpen: false, allowProcessingModeOverride: true }]);
  });

  const loaded = loadConfig(file, {}, { listeners: {} });
  if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join());
  const table = createRouteTable(loaded.config);
  const paths = [
    "/",
    "/mcp",
    "/mcp/",
    "/mcp/x",
    "/mcpx",
    "/oauth",
    "/oauth/token",
    "/oauthx",
    "/.pomerium",
    "/.pomerium/routes",
    "/.pomeriumx",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/mcp",
    "/.well-known/oauth-protected-resourcex",
    "/.well-known/oauth-authorization-server/mcp",
    "/.well-known/openid-configuration",
    "/.well-known/pomerium/jwks.json",
    "/.well-known/pomerium/jwksxjson",
    "/.well-known/pomerium",
    "/xpomerium",
    "/x/oauth/token",
  ];

  describe.each(Object.entries(entriesOf))("%s", (_sample, entries) => {
    it.each(["mcp.example.com", "notes.example.com"])(
      "%s: exactly the gateway's own paths are unchecked",
      (host) => {
        for (const path of paths) {
          const unchecked = entries().filter(
            (entry) => entry.host === host && !entry.checked && entry.matches(path),
          );
          expect(unchecked.length > 0, path).toBe(table.isOwnPath(host, path));
        }
      },
    );

    it("only the route's own paths reach its server; everything is checked on the way", () => {
      const toServer = (path: string) => entries().filter((entry) => !entry.toSidecar && entry.matches(path));
      for (const path of paths) {
        const found = toServer(path);
        expect(found.length > 0, path).toBe(table.find("notes.example.com", path)?.id === "notes");
        for (const entry of found) expect(entry).toMatchObject({ host: "notes.example.com", checked: true });
      }
    });

    it("unchecked requests go to the sidecar only, with the secret; checks carry it, too", () => {
      for (const { checked, toSidecar, sendsSecret, context } of entries()) {
        if (checked) expect(context).toMatchObject(secret);
        else expect({ toSidecar, sendsSecret }).toEqual({ toSidecar: true, sendsSecret: true });
      }
    });

    it("removes what the response filter would remove or rewrite", () => {
      const generated = Object(mcpAnswerHeaders.response_headers_to_remove);
      // Obsolete in browsers.
      const obsolete = ["public-key-pins", "public-key-pins-report-only", "expect-ct"];
      const wanted = [...removedWithoutResponsePath, ...generated].filter((name) => !obsolete.includes(name));
      for (const { toSidecar, removes } of entries())
        if (!toSidecar) expect([...removes].sort()).toEqual(wanted.sort());
    });
  });
});
