import { listedPath } from "../config/endpoint.ts";
import { sentence } from "../config/problems.ts";
import type { RouteTable } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import { addressPage, errorPage } from "../pages/error-page.ts";
import { isNavigation } from "../server/http/errors.ts";
import type { Deny } from "./decision.ts";
import type { Requester, RequestFacts } from "./request.ts";
import type { Checked } from "./stage.ts";

/** Where servers have their endpoint below an address that names a host only, as a rule. */
const usualPlaces = new Set(["/mcp", "/sse"]);

/**
 * The page that a person gets in place of the JSON that a client gets; undefined: the answer stays as it is. Only the body and what
 * belongs to it differ: a client that looks like a browser finds status and challenge all the same.
 */
export function pageOf(
  { decision, route }: Checked,
  facts: RequestFacts,
  table: RouteTable,
): string | undefined {
  if (decision.kind !== "challenge" && decision.kind !== "deny") return undefined;
  // People send forms to applications; what is posted to an MCP server is a call, whoever posts it.
  if (!isPersons(facts, route?.mcp.kind === "client")) return undefined;
  if (decision.kind === "deny" && decision.status !== 404) return denialPage(decision, facts.requestId);
  const { requestId } = facts;
  const { issuer, paths } = table.config;
  const connections = `${issuer}${paths.prefix}/routes`;
  if (decision.kind === "challenge") return route && challengePage(route, facts, connections);
  const unknownHost = table.hasHost(facts.host) ? undefined : facts.host.slice(0, 255);
  return addressPage({ unknownHost, connections, code: decision.code, requestId });
}

/** An application behind a client route sends people to sign in, but for what they have posted: that would be lost on the way. */
function challengePage(route: Route, { path, requestId }: RequestFacts, connections: string): string {
  const code = "unauthorized";
  const { name, resource } = route;
  if (route.mcp.kind === "server")
    return addressPage({ server: { name, url: endpointFor(route, path) }, connections, code, requestId });
  return errorPage({
    title: "Sign in first",
    happened: "You are not signed in, or not any more. What you have sent was not passed on.",
    remedy: `Open ${name} and sign in, then send it again.`,
    action: { label: `Open ${name}`, href: resource },
    code,
    requestId,
  });
}

/** The same for a request that was denied while it was read: of it no more is known than who asks. */
export function pageOfUnread(refusal: Deny, requester: Requester): string | undefined {
  return isPersons(requester) ? denialPage(refusal, requester.requestId) : undefined;
}

function denialPage({ status, code, message }: Deny, requestId: string): string {
  const { title, remedy } = wordsOf(status);
  return errorPage({ title, happened: sentence(message), remedy, code, requestId });
}

function isPersons({ method, headers, presented }: Requester, takesForms = false): boolean {
  return presented.kind !== "bearer" && isNavigation(method, headers, takesForms);
}

/**
 * What to give to a client. Of the path that was asked for, only the usual places count: whoever made the link would otherwise have
 * people paste their text.
 */
function endpointFor({ resource, prefix, mcp }: Route, path: string): string {
  const listed = listedPath({ mcp });
  if (listed !== undefined) return resource + listed;
  const below = prefix === "/" ? path : path.slice(prefix.length);
  return usualPlaces.has(below) ? resource + below : resource;
}

function wordsOf(status: Deny["status"]): { readonly title: string; readonly remedy: string } {
  switch (status) {
    case 403:
      return {
        title: "You may not use this",
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
