import { AsyncLocalStorage } from "node:async_hooks";
import { IncomingMessage } from "node:http";
import { buffer } from "node:stream/consumers";
import type { Context } from "koa";
import { requestId } from "../server/http/request.ts";
import type { GrantedMember } from "../store/granted-members.ts";
import { readClientMetadata } from "./client-rules.ts";

/** The media type of an endpoint. */
export type BodyKind = "form" | "json";

const mediaTypes = { form: "application/x-www-form-urlencoded", json: "application/json" } as const;
/** Longer bodies are passed on unchanged: oidc-provider rejects them. */
const maxBodyBytes = 56 * 1024;
/** Requests that sent `Basic id:`. */
const withoutSecret = new WeakSet<object>();

/** Whether this request, as passed to oidc-provider, had `Authorization: Basic` with an empty secret. */
export function sentBasicWithoutSecret(request: object): boolean {
  return withoutSecret.has(request);
}

/**
 * Normalizes a client's request for oidc-provider: a missing content type, or one with parameters, becomes the endpoint's; the metadata
 * of a registration is normalized; `Basic id:` without a secret becomes a `client_id`. Anything else is passed on unchanged, to be
 * rejected by oidc-provider.
 */
export async function clientRequest(ctx: Context, kind: BodyKind): Promise<IncomingMessage> {
  const { req } = ctx;
  const sent = await buffer(req);
  const headers = { ...req.headers, "x-request-id": requestId(req) };
  const given = (headers["content-type"] ?? "").split(/[;,]/)[0]?.trim().toLowerCase();
  let body: Buffer = sent;
  let basicIsId = false;
  if (sent.length <= maxBodyBytes && (given === "" || given === mediaTypes[kind])) {
    headers["content-type"] = `${mediaTypes[kind]}; charset=utf-8`;
    if (kind === "json") body = registration(sent) ?? sent;
    const clientId = kind === "form" ? idWithoutSecret(headers.authorization) : undefined;
    const form = clientId === undefined ? undefined : withClientId(sent, clientId);
    if (form) {
      body = form;
      delete headers.authorization;
      basicIsId = true;
    }
  }
  delete headers["transfer-encoding"];
  headers["content-length"] = String(body.length);

  const request = new IncomingMessage(req.socket);
  Object.assign(request, { method: req.method, url: req.url, httpVersion: req.httpVersion, headers });
  request.push(body);
  request.push(null);
  request.complete = true;
  if (basicIsId) withoutSecret.add(request);
  return request;
}

function registration(body: Buffer): Buffer | undefined {
  try {
    const given: unknown = JSON.parse(new TextDecoder().decode(body));
    if (typeof given !== "object" || given === null || Array.isArray(given)) return undefined;
    return Buffer.from(JSON.stringify(readClientMetadata({ ...given }, "registration")));
  } catch {
    return undefined;
  }
}

/**
 * The client id of `Basic id:`. A client that is identified by a document may not have encoded its URL, despite RFC 6749 section 2.3.1.
 * The text after its colon cannot be a secret, because documents have none.
 */
function idWithoutSecret(authorization: string | undefined): string | undefined {
  const encoded = /^basic +([A-Za-z0-9+/]+={0,2}) *$/i.exec(authorization ?? "")?.[1];
  const text = encoded && Buffer.from(encoded, "base64").toString("utf8");
  if (!text?.endsWith(":")) return undefined;
  const id = text.slice(0, -1);
  if (id.startsWith("https://")) return id;
  try {
    return id === "" || id.includes(":") ? undefined : decodeURIComponent(id.replaceAll("+", "%20"));
  } catch {
    return undefined;
  }
}

/** Adds the `client_id` to the form; undefined if the form names another client or has a secret. */
function withClientId(body: Buffer, clientId: string): Buffer | undefined {
  const form = new URLSearchParams(body.toString("utf8"));
  const named = form.getAll("client_id").filter((id) => id !== "");
  const others = named.length > 1 || (named.length === 1 && named[0] !== clientId);
  if (others || form.get("client_secret") || form.get("client_assertion")) return undefined;
  form.set("client_id", clientId);
  return Buffer.from(form.toString());
}

/** The user's consent as stored with a grant. */
export interface ConsentRequest {
  /** The redirect URI; loopback addresses without the port (RFC 8252 section 7.3). */
  readonly redirectUri: string;
  /** Unix seconds: when the user pressed "Allow". Grants that reuse a remembered consent keep it. */
  readonly consentedAt: number;
  /** For an aggregated route: the members that the consent page listed, by `memberName`. Another one has to be asked about. */
  readonly seenMembers?: readonly string[];
}

/** A browser's request to the authorization server, for callbacks that oidc-provider calls without the request. */
export interface BrowserRequest {
  readonly ctx: Context;
  /** The consent that the grant of this request is based on. */
  consent?: ConsentRequest;
  /** The members of an aggregated route that this grant may use. */
  members?: readonly GrantedMember[];
  /** When the flow began whose code is exchanged, Unix seconds. */
  begunAt?: number;
}

const requests = new AsyncLocalStorage<BrowserRequest>();

/** The current request; undefined outside a request. */
export const browserRequest = {
  run: <T>(ctx: Context, work: () => Promise<T>): Promise<T> => requests.run({ ctx }, work),
  current: (): BrowserRequest | undefined => requests.getStore(),
};
