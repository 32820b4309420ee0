import { z } from "zod";
import { boundedCache } from "../util/bounded-cache.ts";
import type { Caller } from "./external-tokens.ts";
import type { MetadataProofs } from "./metadata-proofs.ts";

/** The header in which the check of a request to an aggregated route names its caller; it replaces `Authorization`. */
export const signedCallHeader = "x-mcp-auth-aggregate-call";

/** How long a call is valid: Envoy forwards the request at once, seconds. */
const lifeSeconds = 60;
/** Maximum number of used calls to remember, per replica. */
const maxSpent = 20_000;

const caller = z.object({
  userId: z.string(),
  clientId: z.string(),
  grantId: z.string(),
  kind: z.enum(["person", "service_account"]),
  scopes: z.array(z.string()),
  expiresAt: z.number(),
  refreshable: z.boolean(),
  delegatedBy: z.string().optional(),
  askedPath: z.string().optional(),
});
const signedCall = z.object({
  /** Unix seconds. */
  at: z.number(),
  /** Makes calls different from each other. */
  nonce: z.string(),
  routeId: z.string(),
  method: z.string(),
  path: z.string(),
  sourceIp: z.string().optional(),
  requestId: z.string(),
  caller,
});

/** The caller of an allowed request, without a person's facts. */
export type SignedCaller = Omit<Caller, "groups" | "claims"> & { readonly grantId: string };

/** A request to an aggregated route that a check has allowed. */
export interface SignedCall {
  readonly routeId: string;
  readonly method: string;
  /** In normal form, without the query. */
  readonly path: string;
  /** The client's address, as policy saw it. */
  readonly sourceIp?: string;
  readonly requestId: string;
  readonly caller: SignedCaller;
}

/** Hands allowed calls from the check of one replica to the HTTP port of another, through Envoy. */
export interface SignedCalls {
  sign(call: SignedCall): string;
  /** @returns undefined if no replica has signed it within the last minute, or if this replica has read it before */
  read(text: string): SignedCall | undefined;
}

/** @param deps.now Unix milliseconds */
export function createSignedCalls(deps: {
  readonly metadataProofs: Pick<MetadataProofs, "signText" | "isSigned">;
  readonly now?: () => number;
}): SignedCalls {
  const { metadataProofs, now = Date.now } = deps;
  const spent = boundedCache<string, true>(maxSpent, { ttl: 2 * lifeSeconds * 1000 });
  const process = crypto.randomUUID();
  let count = 0;
  return {
    sign(call) {
      count += 1;
      const { userId, clientId, grantId, kind, scopes, expiresAt, refreshable, delegatedBy, askedPath } =
        call.caller;
      const payload = {
        ...call,
        caller: { userId, clientId, grantId, kind, scopes, expiresAt, refreshable, delegatedBy, askedPath },
        at: now() / 1000,
        nonce: `${process} ${count}`,
      };
      const text = Buffer.from(JSON.stringify(payload)).toString("base64url");
      return `${text}.${metadataProofs.signText(text)}`;
    },
    read(signed) {
      const dot = signed.indexOf(".");
      const text = signed.slice(0, dot);
      if (dot < 0 || !metadataProofs.isSigned(text, signed.slice(dot + 1))) return undefined;
      const parsed = signedCall.safeParse(JSON.parse(Buffer.from(text, "base64url").toString()));
      if (!parsed.success || Math.abs(now() / 1000 - parsed.data.at) > lifeSeconds) return undefined;
      if (spent.has(parsed.data.nonce)) return undefined;
      spent.set(parsed.data.nonce, true);
      return parsed.data;
    },
  };
}
