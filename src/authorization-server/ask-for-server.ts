import type { Context } from "koa";
import type { RouteTable } from "../config/route-table.ts";
import { whichServerPage } from "../pages/which-server-page.ts";
import { sendPage } from "../server/http/send-page.ts";
import { onlyRouteOf, routeOfResource } from "./resources.ts";

/** In characters. */
const maxAddressLength = 2000;

/**
 * A client that sends no `resource` (RFC 8707) does not say which of several MCP servers it wants. A page asks the user for the
 * server's address and repeats the request with that address as the resource.
 *
 * @param query the authorization request's parameters; the page's answer is removed from it
 * @returns whether the request was answered with the page
 */
export function askForServer(ctx: Context, query: URLSearchParams, table: RouteTable): boolean {
  const entered = query.get("server");
  query.delete("server");
  const isKnown = query.has("resource") || onlyRouteOf(table, ctx.host) || onlyRouteOf(table);
  const isRequest = query.has("client_id") && query.get("response_type") === "code";
  const mayAsk = isRequest && !query.get("prompt")?.split(" ").includes("none");
  // Only browsers accept HTML.
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

/** Users omit the scheme and copy spaces and fragments. */
function addressOf(entered: string): string | undefined {
  const text = entered.trim().slice(0, maxAddressLength);
  const url = URL.parse(/^https?:\/\//i.test(text) ? text : `https://${text}`);
  if (url === null) return undefined;
  url.hash = "";
  return url.href;
}

/** OpenID Connect parameters, which oidc-provider rejects without the scope openid. Dropping them never weakens a check. */
const withOpenidOnly = new Set(["nonce", "acr_values", "claims", "claims_locales", "id_token_hint"]);
const prompts = new Set(["none", "login", "consent"]);
/** Credentials that a client may post; they must not end up in a URL. */
const secrets = new Set(["client_secret", "client_assertion", "client_assertion_type"]);

/**
 * The parameters of an authorization request that apply here. Left out are parameters without a value (RFC 6749 section 3.1),
 * unknown values of `prompt` (`select_account`) and, without the scope openid, those that only OpenID Connect defines.
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
