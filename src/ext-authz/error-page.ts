import { listedPath } from "../config/paths.ts";
import { sentence } from "../config/problems.ts";
import type { RouteTable } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import { addressPage, errorPage } from "../pages/error-page.ts";
import { isNavigation } from "../server/http/send-page.ts";
import type { Checked } from "./check-types.ts";
import type { Deny } from "./decision.ts";
import type { Requester, RequestFacts } from "./request.ts";

/** Where servers usually have their endpoint when the URL names only a host. */
const usualPaths = new Set(["/mcp", "/sse"]);

/**
 * The page that a person gets instead of a client's JSON; undefined: the response stays as it is. Only the body and its headers
 * differ: a client that looks like a browser still gets the same status and challenge.
 */
export function pageOf(
  { decision, route }: Checked,
  facts: RequestFacts,
  table: RouteTable,
): string | undefined {
  if (decision.kind !== "challenge" && decision.kind !== "deny") return undefined;
  // People send forms to applications; a POST to an MCP server is always a call.
  if (!isPersons(facts, route?.mcp.kind === "client")) return undefined;
  if (decision.kind === "deny" && decision.status !== 404) return denialPage(decision, facts.requestId);
  const { requestId } = facts;
  const { issuer, paths } = table.config;
  const connections = `${issuer}${paths.prefix}/routes`;
  if (decision.kind === "challenge") return route && challengePage(route, facts, connections);
  const unknownHost = table.hasHost(facts.host) ? undefined : facts.host.slice(0, 255);
  return addressPage({ unknownHost, connections, code: decision.code, requestId });
}

/** A client route redirects people to sign-in, except after a POST: a redirect would lose the form's data. */
function challengePage(route: Route, { path, requestId }: RequestFacts, connections: string): string {
  const code = "unauthorized";
  const { name, resource } = route;
  if (route.mcp.kind === "server")
    return addressPage({ server: { name, url: endpointFor(route, path) }, connections, code, requestId });
  return errorPage({
    title: "Sign in first",
    happened: "You are not signed in, or your session has ended. What you sent was not passed on.",
    remedy: `Open ${name}, sign in, and send it again.`,
    action: { label: `Open ${name}`, href: resource },
    code,
    requestId,
  });
}

/** The same for a request that was denied while it was read: only its sender is known. */
export function pageOfUnread(denial: Deny, requester: Requester): string | undefined {
  return isPersons(requester) ? denialPage(denial, requester.requestId) : undefined;
}

function denialPage({ status, code, message }: Deny, requestId: string): string {
  const { title, remedy } = wordsOf(status);
  return errorPage({ title, happened: sentence(message), remedy, code, requestId });
}

function isPersons({ method, headers, presented }: Requester, takesForms = false): boolean {
  return presented.kind !== "bearer" && isNavigation(method, headers, takesForms);
}

/**
 * The URL to configure in a client. Only well-known endpoint paths are taken from the request: otherwise a crafted link could
 * put its own text in front of people to paste.
 */
function endpointFor({ resource, prefix, mcp }: Route, path: string): string {
  const listed = listedPath({ mcp });
  if (listed !== undefined) return resource + listed;
  const below = prefix === "/" ? path : path.slice(prefix.length);
  return usualPaths.has(below) ? resource + below : resource;
}

function wordsOf(status: Deny["status"]): { readonly title: string; readonly remedy: string } {
  switch (status) {
    case 403:
      return {
        title: "Access denied",
        remedy: "Ask the people who run this service for access, or sign in with another account.",
      };
    case 404:
      return { title: "Not found", remedy: "Check the address." };
    case 429:
      return { title: "Too many requests", remedy: "Wait a moment, then try again." };
    case 502:
    case 503:
      return { title: "That did not work", remedy: "Try again in a moment." };
    case 400:
    case 413:
    case 431:
      return {
        title: "That request was not understood",
        remedy: "Check the address, or go back and start again.",
      };
    default:
      return status satisfies never;
  }
}
