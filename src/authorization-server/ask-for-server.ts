import type { Context } from "koa";
import type { RouteTable } from "../config/route-table.ts";
import { whichServerPage } from "../pages/which-server-page.ts";
import { sendPage } from "../server/http/send-page.ts";
import { onlyRouteOf, routeOfResource } from "./resources.ts";

/** In characters; nobody types more. */
const longestAddress = 2000;

/**
 * Clients that send no resource (RFC 8707) say nowhere which MCP server they mean, where there are several: the person knows. A page
 * asks for its address, and comes back with the same request and what was entered, which becomes the resource.
 *
 * @param query the authorization request's parameters; the answer of the page is taken out of it
 * @returns whether the page was sent, and the request is answered
 */
export function askForServer(ctx: Context, query: URLSearchParams, table: RouteTable): boolean {
  const entered = query.get("server");
  query.delete("server");
  const isKnown = query.has("resource") || onlyRouteOf(table, ctx.host) || onlyRouteOf(table);
  const isRequest = query.has("client_id") && query.get("response_type") === "code";
  const mayAsk = isRequest && !query.get("prompt")?.split(" ").includes("none");
  // Whoever accepts pages: only browsers are sent here.
  if (isKnown || !mayAsk || !ctx.get("accept").includes("text/html")) return false;
  const resource = entered === null ? undefined : addressOf(entered);
  if (resource !== undefined && routeOfResource(table, resource)) {
    query.set("resource", resource);
    return false;
  }
  const { issuer, paths } = table.config;
  const page = whichServerPage({
    action: `${issuer}/oauth/authorize`,
    parameters: query,
    connections: `${paths.prefix}/routes`,
    isUnknown: entered !== null,
  });
  sendPage(ctx, entered === null ? 200 : 400, page);
  return true;
}

/** People leave the scheme out, and copy spaces and fragments. */
function addressOf(entered: string): string | undefined {
  const text = entered.trim().slice(0, longestAddress);
  const url = URL.parse(/^https?:\/\//i.test(text) ? text : `https://${text}`);
  if (url === null) return undefined;
  url.hash = "";
  return url.href;
}

/** OpenID Connect's, which oidc-provider refuses without the scope openid. None of them lowers what is asked of the person. */
const withOpenidOnly = new Set(["nonce", "acr_values", "claims", "claims_locales", "id_token_hint"]);
const prompts = new Set(["none", "login", "consent"]);
/** A client that posts these shall not find them in an address. */
const secrets = new Set(["client_secret", "client_assertion", "client_assertion_type"]);

/**
 * The parameters of an authorization request that mean something here: those without a value are left out (RFC 6749 section 3.1), as
 * are values of `prompt` that we do not know (`select_account`) and, without the scope openid, what only OpenID Connect defines.
 */
export function authorizationParameters(given: URLSearchParams): URLSearchParams {
  const read = new URLSearchParams();
  const openid = given.getAll("scope").some((scope) => scope.split(" ").includes("openid"));
  for (const [name, value] of given) {
    if (value === "" || secrets.has(name) || (!openid && withOpenidOnly.has(name))) continue;
    const kept =
      name === "prompt"
        ? value
            .split(/ +/)
            .filter((one) => prompts.has(one))
            .join(" ")
        : value;
    if (kept !== "") read.append(name, kept);
  }
  return read;
}
