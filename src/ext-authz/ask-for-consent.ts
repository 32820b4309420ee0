import { consentHeader } from "../config/header-names.ts";
import type { Caller } from "../external-tokens/external-tokens.ts";
import type { MetadataProofs } from "../external-tokens/metadata-proofs.ts";
import { asksInCall, type Route } from "../model/route.ts";
import type { Credential } from "../upstream-tokens/upstream-tokens.ts";
import { challengePath } from "./challenge.ts";
import { cors } from "./cors.ts";
import type { Ask } from "./decision.ts";
import type { RequestFacts } from "./request.ts";

/** A call without the user's consent, as the check describes it to the HTTP listener in the signed header. */
export interface CallWithoutConsent {
  readonly route: string;
  /** `Route.upstreamHash` */
  readonly upstream: string;
  readonly user: string;
  readonly client: string;
  readonly grant?: string;
  /** `Caller.askedPath` */
  readonly endpoint?: string;
  /** Why the credential is missing. */
  readonly reason: string;
  readonly scopes: readonly string[];
  /** Path that a challenge names. */
  readonly path: string;
  readonly requestId: string;
  /** How the client is asked: by its revision of the protocol. */
  readonly protocol: AskingProtocol;
}

/** `error`: -32042 (MCP 2025-11-25), in a session. `input_required`: a result (MCP 2026-07-28). */
export type AskingProtocol = "error" | "input_required";

/** Methods whose result may be `input_required` (MCP 2026-07-28, multi round-trip requests). */
export const askingMethods: ReadonlySet<string> = new Set(["tools/call", "prompts/get", "resources/read"]);

/** As on a challenge of the check, to which Envoy does not append `Vary`. */
const answerHeaders = cors.answer.filter(([name]) => name !== "vary");

/** Longest value of the signed header: Envoy and the sidecar limit the headers of a request. */
const maxLength = 8 * 1024;

/**
 * Whether the consent may be requested inside the call, as far as its headers tell; undefined: challenge. Only Envoys of our
 * configuration can send the call on, and only a person has an account that can be connected.
 */
export function askForConsent(
  facts: RequestFacts,
  route: Route,
  caller: Caller,
  { scopes, reason }: Extract<Credential, { kind: "missing" }>,
  { metadataProofs }: { readonly metadataProofs: Pick<MetadataProofs, "signHeader"> },
): Ask | undefined {
  if (facts.method !== "POST" || caller.kind !== "person" || !asksInCall(route)) return undefined;
  // The aggregated route asks in its own way, and its client is another program's.
  if (caller.via !== undefined) return undefined;
  if (facts.context.consent !== "call" || !facts.reselects()) return undefined;
  const protocol = protocolOf(facts);
  if (protocol === undefined) return undefined;
  const call: CallWithoutConsent = {
    route: route.id,
    upstream: route.upstreamHash,
    user: caller.userId,
    client: caller.clientId,
    grant: caller.grantId,
    endpoint: caller.askedPath,
    reason,
    scopes,
    path: challengePath(facts, route),
    requestId: facts.requestId,
    protocol,
  };
  const signed = metadataProofs.signHeader("consent", call);
  if (signed.length > maxLength) return undefined;
  return {
    kind: "ask",
    setHeaders: [[consentHeader, signed]],
    removeHeaders: ["authorization", "cookie"],
    responseHeaders: answerHeaders,
  };
}

function protocolOf({ headers }: RequestFacts): AskingProtocol | undefined {
  const revision = headers["mcp-protocol-version"] ?? "";
  if (!/^\d{4}-\d{2}-\d{2}$/.test(revision) || revision < "2025-11-25") return undefined;
  if (revision < "2026-07-28") return headers["mcp-session-id"] === undefined ? undefined : "error";
  const method = headers["mcp-method"];
  return method === undefined || askingMethods.has(method) ? "input_required" : undefined;
}
