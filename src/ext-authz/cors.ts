import { isFramingHeader, mcpCors } from "../config/header-names.ts";
import type { Route } from "../model/route.ts";
import type { Header, Reply } from "./decision.ts";
import type { RequestFacts } from "./request.ts";
import { passes } from "./upstream-headers.ts";

const requestHeaders =
  "Authorization, Content-Type, Accept, MCP-Protocol-Version, MCP-Session-Id, Last-Event-ID, Mcp-Method, Mcp-Name";
/** Headers a browser may ask for beyond these, as `mcp-param-*` cannot be listed in advance. */
const maxExtra = 64;
const headerShape = /^[a-z0-9-]{1,74}$/i;

/** CORS of MCP routes: any origin, because cookies do not authenticate here and a token is required. */
export const cors = {
  /** On every response, ours or the upstream's. `wire/encode.ts` appends `Vary`; the others overwrite. */
  answer: [...mcpCors, ["vary", "Origin"]] satisfies Header[],

  /** Answers a preflight request before authentication: browsers send it without credentials. */
  preflight({ headers }: RequestFacts, route: Route): Reply {
    const extra = (headers["access-control-request-headers"] ?? "")
      .split(",")
      .map((name) => name.trim())
      .filter((name) => headerShape.test(name) && mayBeSent(name.toLowerCase(), route))
      .slice(0, maxExtra);
    return {
      kind: "reply",
      status: 204,
      headers: [
        ...mcpCors,
        ["access-control-allow-methods", "GET, POST, DELETE, OPTIONS"],
        ["access-control-allow-headers", [requestHeaders, ...extra].join(", ")],
        ["access-control-max-age", "7200"],
        ["vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"],
      ],
      body: "",
    };
  },
};

/** Whether a header set by a script would reach the upstream unchanged. @param name in lower case */
function mayBeSent(name: string, route: Route): boolean {
  return passes(name, route) && !isFramingHeader(name) && !name.startsWith("x-forwarded-");
}
