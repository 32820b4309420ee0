import { randomUUID } from "node:crypto";
import Router from "@koa/router";
import type { Context } from "koa";
import { consentHeader } from "../config/header-names.ts";
import { askedAt, consentRequiredPath } from "../config/paths.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { MetadataProofs } from "../external-tokens/metadata-proofs.ts";
import { asksInCall, type Route } from "../model/route.ts";
import { TooManyConsentLinks } from "../server/http/limits.ts";
import type { ElicitationSessions } from "../store/elicitation-sessions.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { askingMethods, type CallWithoutConsent } from "./ask-for-consent.ts";
import { consentMissing } from "./challenge.ts";
import { type McpRequest, members, readMcpRequest } from "./mcp-request.ts";
import { type Recorded, recordDecision } from "./record-decision.ts";

interface ConsentRequiredDeps {
  readonly routes: CurrentRoutes;
  readonly metadataProofs: Pick<MetadataProofs, "openHeader" | "spend">;
  readonly store: { readonly elicitationSessions: Pick<ElicitationSessions, "has"> };
  /** @throws (rejects) TooManyConsentLinks: the call is challenged */
  readonly createConsentLink: (wanted: {
    readonly userId: string;
    readonly route: Route;
    readonly clientId: string;
    readonly grantId?: string;
  }) => Promise<string>;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** Key of our request in `inputRequests`: the client's next try repeats it in `inputResponses`, which also reach the upstream. */
const inputKey = "envoy-mcp-auth.consent";
/** In `_meta` of every request (MCP 2026-07-28). */
const clientCapabilities = "io.modelcontextprotocol/clientCapabilities";

/** JSON-RPC error codes: URLElicitationRequiredError (MCP 2025-11-25), and the one for calls that policy denies. */
const urlElicitationRequired = -32042;
const invalidRequest = -32600;

/** The response, and how it is recorded. */
interface Answer extends Pick<Recorded, "kind" | "reason"> {
  readonly status: 200 | 401;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A call that lacks consent, with its route and body. */
interface Asked {
  readonly call: CallWithoutConsent;
  readonly route: Route;
  readonly request: McpRequest;
  /** `Mcp-Session-Id` */
  readonly sessionId: string;
}

/**
 * Answers calls that lack the user's consent at the upstream: with the protocol's own request to show the user a link, if the client
 * can do that, else with the challenge that the check would have sent. Envoy sends a call here only if the check has marked it, with a
 * signed header; nothing has read the body before.
 */
export function createConsentRequired(deps: ConsentRequiredDeps): Router {
  const { routes } = deps;
  const router = new Router();
  router.post(consentRequiredPath(routes().config.paths.prefix), async (ctx) => {
    const opened = open(ctx);
    // As for any other path that is not served.
    if (!opened) return;
    const { call, route } = opened;
    const request = await readMcpRequest(ctx.req, call.user, routes().config.limits.bodyBytes);
    // Otherwise Node.js would read the rest.
    if (!ctx.req.complete) ctx.set("connection", "close");
    const asked = request && { call, route, request, sessionId: ctx.get("mcp-session-id") };
    const answer = (asked && (await ask(asked))) ?? challenge(call, route);
    const { kind, reason, status, headers = {}, body } = answer;
    const { requestId, user: userId } = call;
    recordDecision(
      deps,
      { kind, reason, status, route, userId, requestId },
      { host: ctx.host, method: ctx.method, path: call.path },
    );
    ctx.status = status;
    ctx.set({ ...headers, "cache-control": "no-store", "x-content-type-options": "nosniff" });
    ctx.body = body;
    ctx.set("content-type", "application/json");
  });

  /** The call that the check has described, and its route; undefined if the header is invalid, or for another host. */
  function open(ctx: Context): { call: CallWithoutConsent; route: Route } | undefined {
    const signed = ctx.get(consentHeader);
    const content = deps.metadataProofs.openHeader("consent", signed);
    if (content === undefined || !deps.metadataProofs.spend(signed)) return undefined;
    // The check has signed it, for this use.
    const call = content as CallWithoutConsent;
    const table = routes();
    const current = table.byId(call.route);
    const route = current?.enabled ? table.withUpstream(current, call.upstream) : undefined;
    return route && route.host === ctx.host ? { call, route: askedAt(route, call.endpoint) } : undefined;
  }

  /** Undefined: the client cannot show the user a link. */
  async function ask(asked: Asked): Promise<Answer | undefined> {
    const { call, route, request } = asked;
    if (!asksInCall(route) || !(await canShowLink(asked))) return undefined;
    if (isDeclined(request)) return declined(asked);
    const { user: userId, client: clientId, grant: grantId, reason } = call;
    const url = await deps.createConsentLink({ userId, route, clientId, grantId }).catch((error) => {
      if (error instanceof TooManyConsentLinks) return undefined;
      throw error;
    });
    if (url === undefined) return undefined;
    const message = `${route.name} needs your consent: open this page of the gateway, sign in and connect your account.`;
    return { kind: "ask", reason, status: 200, body: requestFor(asked, { url, message }) };
  }

  async function canShowLink({ call, route, request, sessionId }: Asked): Promise<boolean> {
    const { method, params } = request;
    if (call.protocol === "input_required") {
      const { elicitation } = members(members(params._meta)[clientCapabilities]);
      return askingMethods.has(method) && "url" in members(elicitation);
    }
    if (route.mcp.kind === "server" && route.mcp.consent === "elicitation") return true;
    return deps.store.elicitationSessions.has({ userId: call.user, routeId: route.id, sessionId });
  }

  return router;
}

function challenge({ path, requestId, scopes, reason }: CallWithoutConsent, route: Route): Answer {
  const { wwwAuthenticate, body } = consentMissing(route, { path, requestId }, scopes);
  return { kind: "challenge", reason, status: 401, headers: { "www-authenticate": wwwAuthenticate }, body };
}

/** The protocol's request to show the user a link. */
function requestFor(
  { call, request }: Asked,
  link: { readonly url: string; readonly message: string },
): string {
  const { id } = request;
  if (call.protocol === "input_required") {
    const params = { mode: "url", ...link };
    const inputRequests = { [inputKey]: { method: "elicitation/create", params } };
    return JSON.stringify({ jsonrpc: "2.0", id, result: { resultType: "input_required", inputRequests } });
  }
  const elicitations = [{ mode: "url", elicitationId: randomUUID(), ...link }];
  const error = { code: urlElicitationRequired, message: link.message, data: { elicitations } };
  return JSON.stringify({ jsonrpc: "2.0", id, error });
}

/** Whether the client repeats the call after its user has declined. */
function isDeclined({ params }: McpRequest): boolean {
  const { action } = members(members(params.inputResponses)[inputKey]);
  return action === "decline" || action === "cancel";
}

/** A challenge would open a browser for what the user has just declined. */
function declined({ call, request, route }: Asked): Answer {
  const reason = "consent_declined";
  const message = `${route.name} needs your consent, which you declined`;
  const error = { code: invalidRequest, message, data: { request_id: call.requestId, reason } };
  return {
    kind: "reply",
    reason,
    status: 200,
    body: JSON.stringify({ jsonrpc: "2.0", id: request.id, error }),
  };
}
