import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ScriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";

export const prm = "/.well-known/oauth-protected-resource";
const rfc8414 = "/.well-known/oauth-authorization-server";
const oidc = "/.well-known/openid-configuration";

/** The rows of the table in docs/troubleshooting.md, by fault. */
const page = readFileSync(join(import.meta.dirname, "../../docs/troubleshooting.md"), "utf8");
const section = /^### Faults of an upstream$(.*?)^## /ms.exec(page)?.[1] ?? "";
export const documentedFaults = new Map(
  [...section.matchAll(/^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$/gm)].map(
    ([, code = "", when = "", words = "", log = "", advice = ""]) => [code, { when, words, log, advice }],
  ),
);
/** The code in a cell of the table, as printed. */
export const quoted = (cell: string) =>
  [...cell.matchAll(/`((?:\\`|[^`])+)`/g)].map(([, text = ""]) => text.replaceAll("\\`", "`"));

/** A fault of an upstream, or of its route. */
export interface Fault {
  /** `mcp.server` of the route, YAML. */
  readonly server?: string;
  readonly to?: string;
  readonly arrange?: (upstream: ScriptedUpstream) => void;
  /** `doctor` has no side effects, so it cannot detect it. */
  readonly unseen?: true;
}

const withoutMetadata = (upstream: ScriptedUpstream) => {
  for (const path of [`${prm}/mcp`, rfc8414]) upstream.off(path);
};

/** Faults detected when a connection is started, by code. */
export const discoveryFaults: Readonly<Record<string, Fault>> = {
  unreachable: { to: "http://127.0.0.1:1/mcp" },
  server_error: {
    arrange: (upstream) => {
      upstream.off(`${prm}/mcp`);
      upstream.on("/mcp", { status: 503 });
      for (const path of [rfc8414, oidc]) upstream.on(path, { status: 503 });
    },
  },
  not_an_mcp_server: {
    arrange: (upstream) => {
      withoutMetadata(upstream);
      upstream.off("/mcp");
    },
  },
  discovery_failed: {
    arrange: (upstream) => {
      withoutMetadata(upstream);
      upstream.on("/mcp", { status: 401 });
      for (const path of ["/register", "/token"]) upstream.off(path);
    },
  },
  resource_mismatch: {
    arrange: (upstream) => upstream.on(`${prm}/mcp`, { body: { resource: "https://other.test/mcp" } }),
  },
  metadata_invalid: {
    arrange: (upstream) => {
      upstream.metadata.token_endpoint = null;
    },
  },
  issuer_mismatch: {
    arrange: (upstream) => {
      upstream.metadata.issuer = "https://login.other.test";
    },
  },
  issuer_changed: {
    server:
      '{authorization_server_url: "https://as.test", upstream_oauth2: {client_id: c, client_secret: s}}',
  },
  issuer_of_other_route: {
    server: '{expected_issuer: "https://id.test"}',
    arrange: (upstream) => {
      upstream.metadata.issuer = "https://id.test";
    },
  },
  endpoint_not_allowed: {
    arrange: (upstream) =>
      upstream.on(`${prm}/mcp`, {
        body: { resource: upstream.mcp, authorization_servers: ["https://10.0.0.7"] },
      }),
  },
  redirect_not_followed: {
    arrange: (upstream) => {
      for (const path of [rfc8414, oidc])
        upstream.on(path, { status: 302, headers: { location: "https://elsewhere.test/" } });
    },
  },
  response_too_large: {
    arrange: (upstream) => {
      for (const path of [rfc8414, oidc]) upstream.on(path, { body: "x".repeat(2 * 1024 * 1024) });
    },
  },
  pkce_not_supported: {
    arrange: (upstream) => {
      upstream.metadata.code_challenge_methods_supported = null;
    },
  },
  registration_unavailable: {
    arrange: (upstream) => {
      upstream.metadata.registration_endpoint = null;
    },
  },
  registration_rejected: { arrange: (upstream) => upstream.on("/register", { status: 403 }), unseen: true },
};
