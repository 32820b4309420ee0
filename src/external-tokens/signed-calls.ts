import { z } from "zod";
import { boundedCache } from "../util/bounded-cache.ts";
import type { Caller } from "./external-tokens.ts";
import type { MetadataProofs } from "./metadata-proofs.ts";

/** The header in which the check of a request to an aggregated route names its caller; it replaces `Authorization`. */
export const signedCallHeader = "x-mcp-auth-aggregate-call";

/** Longer than a signed header is valid, ms. */
const spentMs = 120_000;
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

export function createSignedCalls(deps: {
  readonly metadataProofs: Pick<MetadataProofs, "signHeader" | "openHeader">;
}): SignedCalls {
  const { metadataProofs } = deps;
  const spent = boundedCache<string, true>(maxSpent, { ttl: spentMs });
  return {
    sign(call) {
      const { userId, clientId, grantId, kind, scopes, expiresAt, refreshable, delegatedBy, askedPath } =
        call.caller;
      return metadataProofs.signHeader("call", {
        ...call,
        caller: { userId, clientId, grantId, kind, scopes, expiresAt, refreshable, delegatedBy, askedPath },
      });
    },
    read(signed) {
      const parsed = signedCall.safeParse(metadataProofs.openHeader("call", signed));
      // The MAC, which the signature ends with, differs from call to call.
      const mac = signed.slice(signed.lastIndexOf("."));
      if (!parsed.success || spent.has(mac)) return undefined;
      spent.set(mac, true);
      return parsed.data;
    },
  };
}
