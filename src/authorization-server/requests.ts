import { AsyncLocalStorage } from "node:async_hooks";
import { IncomingMessage } from "node:http";
import { buffer } from "node:stream/consumers";
import type { Context } from "koa";
import { requestId } from "../server/http/request.ts";
import { readClientMetadata } from "./clients.ts";

/** `form` and `json`: the media type of the endpoint. */
export type BodyKind = "form" | "json";

const mediaTypes = { form: "application/x-www-form-urlencoded", json: "application/json" } as const;
/** Longer bodies go on as they came: oidc-provider refuses them. */
const longestBody = 56 * 1024;
/** Requests that sent `Basic id:`. */
const withoutSecret = new WeakSet<object>();

/** Whether this request, as oidc-provider has it, came with `Authorization: Basic` and an empty secret. */
export function sentBasicWithoutSecret(request: object): boolean {
  return withoutSecret.has(request);
}

/**
 * A request to an endpoint that clients call, as oidc-provider reads it: a content type without parameters, or none, is the
 * endpoint's own; a registration is read as most clients mean it; `Basic id:` of a client that has no secret is its `client_id`.
 * What is not understood goes on as it came, for oidc-provider to refuse.
 */
export async function clientRequest(ctx: Context, kind: BodyKind): Promise<IncomingMessage> {
  const { req } = ctx;
  const sent = await buffer(req);
  const headers = { ...req.headers, "x-request-id": requestId(req) };
  const given = (headers["content-type"] ?? "").split(/[;,]/)[0]?.trim().toLowerCase();
  let body: Buffer = sent;
  let basicIsId = false;
  if (sent.length <= longestBody && (given === "" || given === mediaTypes[kind])) {
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
 * The client id of `Basic id:`. A client that is known by its document may have left its URL as it is, in spite of RFC 6749 section
 * 2.3.1; a secret cannot be meant then, since documents have none.
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

/** The form with that `client_id`; undefined where it names another client, or brings a secret of its own. */
function withClientId(body: Buffer, clientId: string): Buffer | undefined {
  const form = new URLSearchParams(body.toString("utf8"));
  const named = form.getAll("client_id").filter((id) => id !== "");
  const others = named.length > 1 || (named.length === 1 && named[0] !== clientId);
  if (others || form.get("client_secret") || form.get("client_assertion")) return undefined;
  form.set("client_id", clientId);
  return Buffer.from(form.toString());
}

/** What the person has agreed to, as a grant keeps it. */
export interface ConsentRequest {
  /** Where the answer goes; of a loopback address without the port (RFC 8252 section 7.3). */
  readonly redirectUri: string;
  /** Unix seconds: when the person pressed "Allow". Grants that follow from a remembered consent keep it. */
  readonly consentedAt: number;
}

/** A browser's request to the authorization server, for the parts that oidc-provider calls without one. */
export interface BrowserRequest {
  readonly ctx: Context;
  /** What the grant of this request will rest on. */
  consent?: ConsentRequest;
}

const requests = new AsyncLocalStorage<BrowserRequest>();

/** The request under way, wherever the code that needs it is called from; undefined outside of one. */
export const browserRequest = {
  run: <T>(ctx: Context, work: () => Promise<T>): Promise<T> => requests.run({ ctx }, work),
  current: (): BrowserRequest | undefined => requests.getStore(),
};
