import type { Member } from "../config/aggregates.ts";
import { type Aggregate, aggregateOf, type Route, type UpstreamAuth } from "../model/route.ts";
import { printableLines } from "../util/plain-text.ts";
import { adviceFor } from "./operator-advice.ts";
import type { DiscoveryResult, DiscoveryStep, UpstreamOAuth } from "./upstream-oauth.ts";

const titles: Readonly<Record<DiscoveryStep["name"], string>> = {
  upstream: "Request without a token",
  initialize: "Open a session",
  resource_metadata: "Protected-resource metadata",
  server_metadata: "Authorization server metadata",
  default_endpoints: "Default endpoints (2025-03-26)",
  capabilities: "Authorization server capabilities",
  client: "Client registration",
  token_endpoint: "Token endpoint",
  result: "Result",
};

const clientNotChecked =
  "Whether it accepts the client of the routes file is not checked: the first call shows it.";

/** What `doctor --json` prints; the names are a contract. */
export interface DoctorReport {
  readonly route_id: string;
  readonly name: string;
  readonly url: string;
  readonly to: readonly string[];
  readonly kind: "server" | "client";
  readonly auth?: string;
  readonly enabled: boolean;
  /** Whether users can use the route as it is. */
  readonly usable: boolean;
  readonly steps: readonly {
    readonly step: DiscoveryStep["name"];
    readonly ok: boolean;
    readonly url?: string;
    readonly status?: number;
    readonly finding: string;
  }[];
  /** Why not, and what to do. */
  readonly error?: { readonly code: string; readonly message: string; readonly what_to_do: string };
  readonly summary?: string;
  readonly notes?: readonly string[];
  /** Of an aggregated route. */
  readonly members?: readonly {
    readonly route_id: string;
    readonly url: string;
    readonly enabled: boolean;
    readonly prefix: string;
  }[];
}

/**
 * What `doctor ROUTE` and the admin page report: runs the steps of a call or a consent on the route, prints each with its URL, status and
 * finding, and ends with what the operator should do.
 *
 * @param deps.write gets the text, line ends included.
 * @returns the same as data
 */
export async function doctorReport(
  route: Route,
  deps: {
    readonly discover: UpstreamOAuth["discover"];
    /** An operator may have to register it manually. */
    readonly redirectUri: string;
    readonly write: (text: string) => void;
    /** Of an aggregated route. */
    readonly members?: readonly Member[];
  },
): Promise<DoctorReport> {
  // Servers name their scopes and errors.
  const write = (text: string) => deps.write(printableLines(text));
  const steps: DoctorReport["steps"][number][] = [];
  const report = (usable: boolean, more: Partial<DoctorReport> = {}): DoctorReport => ({
    ...{ route_id: route.id, name: route.name, url: route.resource, to: route.to, kind: route.mcp.kind },
    ...(route.mcp.kind === "server" && { auth: route.mcp.auth.type }),
    ...{ enabled: route.enabled, usable, steps, ...more },
  });
  const upstream = aggregateOf(route) === undefined ? route.upstream : "other MCP routes";
  write(`${route.name}\n  ${route.resource} -> ${upstream}\n`);
  if (!route.enabled) write("\nThe route is disabled (enabled: false): it answers 404.\n");
  if (route.mcp.kind === "client") {
    const summary = "A client route: the application behind it needs no upstream token. Nothing to discover.";
    write(`\n${summary}\n`);
    return report(true, { summary });
  }
  if (route.mcp.aggregate !== undefined) {
    const members = (deps.members ?? []).map(({ route: { id, resource, enabled }, prefix }) => {
      return { route_id: id, url: resource, enabled, prefix };
    });
    return report(listMembers(route.mcp.aggregate, { ...deps, write }), { members });
  }
  const { auth } = route.mcp;
  write(introduction(auth, deps.redirectUri));

  let last: string | undefined;
  let isGuess = false;
  const notes: string[] = [];
  const outcome = await deps.discover(route, (step) => {
    if (step.name === "result") return; // Printed below, with what to do.
    const { name, ok, url, status, finding } = step;
    steps.push({ step: name, ok, url, status, finding });
    if (step.name !== last) write(`\n${titles[step.name]}\n`);
    last = step.name;
    isGuess ||= step.name === "default_endpoints";
    if (step.note !== undefined) notes.push(step.note);
    write(lines(step));
  });
  if (!outcome.ok) {
    const advice = adviceFor(outcome.code, route);
    write(
      `\nUsers cannot ${auth.mode === "consent" ? "connect" : "use this route"}: ${outcome.message} (${outcome.code})\n\nWhat to do\n${wrapped(advice)}`,
    );
    return report(false, { error: { code: outcome.code, message: outcome.message, what_to_do: advice } });
  }
  if (isGuess) {
    const message = "the server publishes no metadata, and its endpoints are a guess";
    const advice = adviceFor("discovery_failed", route);
    write(`\nUsers may not be able to connect: ${message}.\n\nWhat to do\n${wrapped(advice)}`);
    return report(false, { error: { code: "discovery_failed", message, what_to_do: advice } });
  }
  const summary = verdict(auth, outcome);
  write(`\n${summary}${notes.length === 0 && auth.mode === "consent" ? " Nothing to do." : ""}\n`);
  if (outcome.needed && auth.mode !== "consent") write(`${clientNotChecked}\n`);
  if (notes.length > 0) write(`\nNotes\n${notes.map(wrapped).join("")}`);
  const unchecked = outcome.needed && auth.mode !== "consent" ? [clientNotChecked] : [];
  return report(true, { summary, notes: [...unchecked, ...notes] });
}

/** What an aggregated route is made of. Each member is a route that can be examined itself. */
function listMembers(
  { members: named }: Aggregate,
  { members = [], write }: { readonly members?: readonly Member[]; readonly write: (text: string) => void },
): boolean {
  write(
    `\nAn aggregated route: the gateway answers for ${named === "all" ? "all MCP routes" : "these routes"}.\n`,
  );
  for (const { route, prefix } of members)
    write(
      `  ${route.enabled ? "ok  " : "off "}  ${route.id}  names begin with ${prefix}\n        ${route.resource}\n`,
    );
  const usable = members.some(({ route }) => route.enabled);
  write(
    usable
      ? "\nExamine each of them: envoy-mcp-auth doctor ROUTE\n"
      : "\nUsers find no tools here: no member is enabled.\n",
  );
  return usable;
}

/** Describes what is configured instead of discovered, and what doctor cannot check. */
function introduction(auth: UpstreamAuth, redirectUri: string): string {
  switch (auth.mode) {
    case "static":
      return auth.headers.length === 0
        ? "\nupstream_auth is none: calls go to the server without a credential.\n"
        : `\nupstream_auth is ${auth.type}: there is no authorization server to discover.\n`;
    case "non_interactive":
      return auth.tokenUrl === undefined
        ? ""
        : `\nupstream_auth is ${auth.type}, with its token_url: nothing is discovered.\n  token          ${auth.tokenUrl}\n`;
    case "consent":
      return auth.endpoint === undefined
        ? ""
        : "\nupstream_oauth2.endpoint is given: nothing is discovered.\n" +
            `  authorization  ${auth.endpoint.authUrl}\n  token          ${auth.endpoint.tokenUrl}\n` +
            `${auth.clientId ?? "our client"} must be registered there with this redirect URI; doctor cannot check whether it is.\n` +
            `  redirect URI   ${redirectUri}\n`;
    default:
      return auth satisfies never;
  }
}

function verdict(auth: UpstreamAuth, found: Extract<DiscoveryResult, { ok: true }>): string {
  const server = found.issuer ?? "the server";
  if (!found.needed) {
    return auth.mode === "consent" || (auth.mode === "static" && auth.headers.length === 0)
      ? "The server requires no authorization: users can use this route as it is."
      : "The server accepts the credential of the routes file: users can use this route as it is.";
  }
  if (auth.mode !== "consent")
    return `Users do not have to connect: the gateway requests tokens from ${server}.`;
  const scopes = found.scopes.length > 0 ? `, scopes ${found.scopes.join(" ")}` : "";
  return `Users can connect: they are redirected to ${server}${scopes}.`;
}

function lines(step: DiscoveryStep): string {
  const mark = step.ok ? "ok  " : "FAIL";
  if (step.url === undefined) return `  ${mark}  ${step.finding}\n`;
  // A successful step without a status has sent no request: its URL is a finding.
  const status = step.status ?? (step.ok ? "" : "no answer");
  const line = `  ${mark}  ${step.url}  ${status}`.trimEnd();
  return `${line}\n        ${step.finding}\n`;
}

/** Wraps at 100 characters between words, indented by two. */
function wrapped(text: string): string {
  const rows = [""];
  for (const word of text.split(" ")) {
    const row = rows[rows.length - 1] ?? "";
    if (row.length + word.length > 97 && row !== "") rows.push(word);
    else rows[rows.length - 1] = row === "" ? word : `${row} ${word}`;
  }
  return rows.map((row) => `  ${row}\n`).join("");
}
