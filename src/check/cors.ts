import type { Route } from "../config/route.ts";
import { isFramingHeader } from "../config/upstream-request-headers.ts";
import type { Header, Reply } from "./decision.ts";
import type { RequestFacts } from "./request-facts.ts";
import { passes } from "./upstream-headers.ts";

const requestHeaders =
  "Authorization, Content-Type, Accept, MCP-Protocol-Version, MCP-Session-Id, Last-Event-ID, Mcp-Method, Mcp-Name";
/** Of what a browser asks for beyond these, what would pass: `mcp-param-*` cannot be listed in advance. */
const mostExtra = 64;
const headerShape = /^[a-z0-9-]{1,74}$/i;

/** CORS of MCP routes (F2.8): any origin, because no cookie counts here and a token must be shown. */
export const cors = {
  /** On every answer, ours or the upstream's. `Vary` is appended by `response.ts`, the others overwrite. */
  answer: [
    ["access-control-allow-origin", "*"],
    ["access-control-expose-headers", "WWW-Authenticate, MCP-Session-Id"],
    ["vary", "Origin"],
  ] satisfies Header[],

  /** Answers a preflight before authentication: browsers send it without credentials. */
  preflight({ headers }: RequestFacts, route: Route): Reply {
    const extra = (headers["access-control-request-headers"] ?? "")
      .split(",")
      .map((name) => name.trim())
      .filter((name) => headerShape.test(name) && mayBeSent(name.toLowerCase(), route))
      .slice(0, mostExtra);
    return {
      kind: "reply",
      status: 204,
      headers: [
        ["access-control-allow-origin", "*"],
        ["access-control-allow-methods", "GET, POST, DELETE, OPTIONS"],
        ["access-control-allow-headers", [requestHeaders, ...extra].join(", ")],
        ["access-control-expose-headers", "WWW-Authenticate, MCP-Session-Id"],
        ["access-control-max-age", "7200"],
        ["vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"],
      ],
      body: "",
    };
  },
};

/** Whether a script's header would reach the upstream as it was sent. @param name in lower case */
function mayBeSent(name: string, route: Route): boolean {
  return passes(name, route) && !isFramingHeader(name) && !name.startsWith("x-forwarded-");
}
