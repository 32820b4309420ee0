import { randomUUID } from "node:crypto";
import { ProtocolError, type ServerContext, UrlElicitationRequiredError } from "@modelcontextprotocol/server";
import { TooManyConsentLinks } from "../server/http/limits.ts";
import type { AggregationDeps } from "./aggregation.ts";
import type { Conversation } from "./conversation.ts";
import { anyObject, type JsonObject } from "./json.ts";
import { connectToolName, type Naming } from "./names.ts";

export type AccessDeps = Pick<AggregationDeps, "grantedMembers" | "mayReach">;

export type ConsentDeps = AccessDeps &
  Pick<AggregationDeps, "createConsentLink"> & {
    readonly onLink: (conversation: Conversation, naming: Naming) => void;
  };

/** How long a call waits for the person to say whether they open the link, ms. */
const askMs = 120_000;

/** Key of the question in `input_required` results. */
const questionKey = "connect";

/** Whether policy lets the caller reach a member at all, and whether the person has allowed this client's grant to use it. */
export async function accessTo(
  deps: AccessDeps,
  { call, namings }: Pick<Conversation, "call" | "namings">,
): Promise<{ readonly usable: ReadonlySet<Naming>; readonly reachable: ReadonlySet<Naming> }> {
  const granted = await deps.grantedMembers(call.caller.grantId);
  const reachable = namings.filter(({ member }) => deps.mayReach(call.caller, member.route));
  const usable = reachable.filter(({ member }) => granted.has(member.route.id));
  return { usable: new Set(usable), reachable: new Set(reachable) };
}

/** The tool that stands for a member which the person has to connect or to allow first. */
export function connectTool(naming: Naming): JsonObject {
  const { name } = naming.member.route;
  return {
    name: connectToolName(naming),
    title: `Connect ${name}`,
    description: `The tools of ${name} are not available yet. Call this tool to get a link with which the user connects ${name}; then list the tools again.`,
    inputSchema: { type: "object", properties: {}, additionalProperties: false },
    annotations: { readOnlyHint: true, openWorldHint: true },
  };
}

/** @throws (rejects) ProtocolError if the user has got too many */
async function newLink(deps: ConsentDeps, conversation: Conversation, naming: Naming): Promise<string> {
  const { call } = conversation;
  const { member } = naming;
  const { userId, clientId, grantId } = call.caller;
  const wanted = { userId, clientId, grantId, route: member.route, aggregate: call.route };
  const url = await deps.createConsentLink(wanted).catch((error) => {
    if (!(error instanceof TooManyConsentLinks)) throw error;
    const text = `${member.route.name} is not connected, and too many links were created; open one of them, or try again in an hour`;
    throw new ProtocolError(-32_000, text);
  });
  deps.onLink(conversation, naming);
  return url;
}

function opensLinks({ client }: Conversation): boolean {
  return client.capabilities.elicitation?.url !== undefined;
}

/** The client has asked the person, and they have not finished yet or have declined: the link is all that is left. */
function hasAsked({ mcpReq }: ServerContext): boolean {
  return mcpReq.inputResponses?.[questionKey] !== undefined;
}

function question(
  naming: Naming,
  url: string,
): JsonObject & { readonly url: string; readonly message: string } {
  const { name } = naming.member.route;
  return { mode: "url", url, message: `Connect ${name} to continue` };
}

/** For clients that do not open links themselves. */
function linkAsText({ member: { route } }: Naming, url: string): string {
  return `${route.name} is not connected. Ask the user to open this link and to connect ${route.name}, then try again: ${url}`;
}

function asResult(text: string, isError: boolean): JsonObject {
  return { content: [{ type: "text", text }], isError };
}

/**
 * The result of a connect tool: a link, which the client opens itself if it can.
 * MCP 2025-11-25 and 2026-07-28, "Elicitation", URL mode.
 */
export async function connectResult(
  deps: ConsentDeps,
  conversation: Conversation,
  naming: Naming,
  ctx: ServerContext,
): Promise<JsonObject> {
  const url = await newLink(deps, conversation, naming);
  if (opensLinks(conversation) && !hasAsked(ctx)) {
    if (conversation.client.era === "modern") return inputRequired(naming, url);
    const params = { ...question(naming, url), elicitationId: randomUUID() };
    // The result says all that matters, whatever the answer.
    await ctx.mcpReq
      .send({ method: "elicitation/create", params }, anyObject, {
        timeout: askMs,
        signal: ctx.mcpReq.signal,
      })
      .catch(() => {});
  }
  return asResult(linkAsText(naming, url), false);
}

/** The result of a connect tool of a member that is connected. */
export function connectedResult(naming: Naming): JsonObject {
  const { name } = naming.member.route;
  return asResult(`${name} is connected. List the tools again to see its tools.`, false);
}

/**
 * The answer to a call that lacks the person's consent at the member.
 * @throws UrlElicitationRequiredError for clients of 2025-11-25 that can open links, ProtocolError for methods without a result for it
 */
export async function consentNeeded(
  deps: ConsentDeps,
  conversation: Conversation,
  naming: Naming,
  method: string,
  ctx: ServerContext,
): Promise<JsonObject> {
  const url = await newLink(deps, conversation, naming);
  if (opensLinks(conversation) && !hasAsked(ctx)) {
    if (conversation.client.era === "modern") return inputRequired(naming, url);
    const { message } = question(naming, url);
    throw new UrlElicitationRequiredError(
      [{ mode: "url", url, message, elicitationId: randomUUID() }],
      `${naming.member.route.name} is not connected`,
    );
  }
  const text = linkAsText(naming, url);
  if (method === "tools/call") return asResult(text, true);
  throw new ProtocolError(-32_000, text);
}

function inputRequired(naming: Naming, url: string): JsonObject {
  return {
    resultType: "input_required",
    inputRequests: { [questionKey]: { method: "elicitation/create", params: question(naming, url) } },
  };
}
