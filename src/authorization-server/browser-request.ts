import { AsyncLocalStorage } from "node:async_hooks";
import type { Context } from "koa";

/** What the person has agreed to, as a grant keeps it. */
export interface Consent {
  /** Where the answer goes; of a loopback address without the port (RFC 8252 section 7.3). */
  readonly redirectUri: string;
  /** Unix seconds: when the person pressed "Allow". Grants that follow from a remembered consent keep it. */
  readonly consentedAt: number;
}

/** A browser's request to the authorization server, for the parts that oidc-provider calls without one. */
export interface BrowserRequest {
  readonly ctx: Context;
  /** What the grant of this request will rest on. */
  consent?: Consent;
}

const requests = new AsyncLocalStorage<BrowserRequest>();

/** The request under way, wherever the code that needs it is called from; undefined outside of one. */
export const browserRequest = {
  run: <T>(ctx: Context, work: () => Promise<T>): Promise<T> => requests.run({ ctx }, work),
  current: (): BrowserRequest | undefined => requests.getStore(),
};
