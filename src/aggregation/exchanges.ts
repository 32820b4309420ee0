import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import {
  isJSONRPCNotification,
  isJSONRPCRequest,
  type JSONRPCMessage,
  type JSONRPCRequest,
  type MessageExtraInfo,
  type RequestId,
  type Transport,
  type TransportSendOptions,
  type WebStandardStreamableHTTPServerTransport,
} from "@modelcontextprotocol/server";
import { isObject, type JsonObject } from "./json.ts";

/** The request that an exchange replays: its response goes nowhere. */
const replayId = "replayed-initialize";

/**
 * The connection between the SDK's server and its HTTP transport for one POST of a client with a session (2025-03-26 to 2025-11-25). The
 * server of each POST is a new one, told first what the client said in `initialize`; so any replica can answer any request.
 *
 * The client answers our requests with other POSTs, to any replica: their ids say which replica and which exchange they belong to.
 */
export class Exchange implements Transport {
  /** Unguessable, so that no other session's answer can hit it. */
  readonly id = randomBytes(9).toString("base64url");
  /** Ids of the client's requests that have no response yet. */
  readonly #open = new Set<RequestId>();
  #begun = false;
  readonly #inner: WebStandardStreamableHTTPServerTransport;
  readonly #issuer: Issuer;
  readonly #onOther: (message: JSONRPCMessage) => void;
  #replayed: (() => void) | undefined;

  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: (message: JSONRPCMessage, extra?: MessageExtraInfo) => void;

  /**
   * @param issuer of the ids of our requests
   * @param onOther gets what is not a request: answers to our requests, and notifications
   */
  constructor(
    inner: WebStandardStreamableHTTPServerTransport,
    issuer: Issuer,
    onOther: (message: JSONRPCMessage) => void,
  ) {
    this.#inner = inner;
    this.#issuer = issuer;
    this.#onOther = onOther;
  }

  async start(): Promise<void> {
    this.#inner.onmessage = (message, extra) => {
      if (!isJSONRPCRequest(message)) return this.#onOther(message);
      this.#open.add(message.id);
      this.#begun = true;
      this.onmessage?.(message, extra);
    };
    this.#inner.onclose = () => this.onclose?.();
    await this.#inner.start();
  }

  setSupportedProtocolVersions(versions: string[]): void {
    this.#inner.setSupportedProtocolVersions(versions);
  }

  /** Tells the server what the client has said in `initialize`. */
  async replay(params: JSONRPCRequest["params"]): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#replayed = done.resolve;
    this.onmessage?.({ jsonrpc: "2.0", id: replayId, method: "initialize", params });
    await done.promise;
  }

  /** Whether requests have come, and each has its response. */
  get isDone(): boolean {
    return this.#begun && this.#open.size === 0;
  }

  /** Whether a request with this id is being handled. */
  handles(id: RequestId): boolean {
    return this.#open.has(id);
  }

  /** Gives the server a message of the client that has arrived elsewhere. */
  deliver(message: JSONRPCMessage): void {
    this.onmessage?.(message);
  }

  async send(message: JSONRPCMessage, options?: TransportSendOptions): Promise<void> {
    if ("id" in message && message.id === replayId && !("method" in message)) {
      this.#replayed?.();
      return;
    }
    if (!("method" in message) && message.id !== undefined) this.#open.delete(message.id);
    const related = options?.relatedRequestId;
    await this.#inner.send(
      this.#outer(message),
      related === undefined ? undefined : { relatedRequestId: related },
    );
  }

  #outer(message: JSONRPCMessage): JSONRPCMessage {
    if (isJSONRPCRequest(message)) {
      const token = message.params?._meta?.progressToken;
      return {
        ...message,
        id: this.#name(message.id),
        ...(typeof token === "number"
          ? {
              params: {
                ...message.params,
                _meta: { ...message.params?._meta, progressToken: this.#name(token) },
              },
            }
          : {}),
      };
    }
    if (isJSONRPCNotification(message) && message.method === "notifications/cancelled") {
      const { requestId } = message.params ?? {};
      if (typeof requestId === "number")
        return { ...message, params: { ...message.params, requestId: this.#name(requestId) } };
    }
    return message;
  }

  #name(id: RequestId): string {
    const issued = `${this.#issuer.replica}.${this.id}.${id}`;
    return `${issued}.${macOf(issued, this.#issuer.key)}`;
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }
}

/** What the ids of our requests name, and what proves that we have issued them. */
interface Issuer {
  /** This replica's id, without dots. */
  readonly replica: string;
  /** Of the client's session, base64url: an id is valid in one session only. */
  readonly key: string;
}

/** Where a client's answer or notification belongs, and what the server there expects. */
export interface Addressed {
  readonly replica: string;
  readonly exchange: string;
  readonly message: JSONRPCMessage;
}

const name = /^(([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{12})\.(\d{1,9}))\.([A-Za-z0-9_-]{16})$/;

/** 96 bits: invented ids must not become messages to replicas that do not exist. */
function macOf(issued: string, key: string): string {
  const mac = createHmac("sha256", Buffer.from(key, "base64url")).update(`request id ${issued}`).digest();
  return mac.subarray(0, 12).toString("base64url");
}

/**
 * The exchange that an answer, or the progress of one, belongs to; undefined if it is none of ours.
 * @param key of the client's session, base64url
 */
export function addressed(message: JSONRPCMessage, key: string): Addressed | undefined {
  if (isJSONRPCRequest(message)) return undefined;
  if (isJSONRPCNotification(message)) {
    if (message.method !== "notifications/progress") return undefined;
    const found = partsOf(message.params?.progressToken, key);
    return (
      found && { ...found, message: { ...message, params: { ...message.params, progressToken: found.id } } }
    );
  }
  const found = partsOf(message.id, key);
  return found && { ...found, message: { ...message, id: found.id } };
}

function partsOf(id: unknown, key: string): { replica: string; exchange: string; id: number } | undefined {
  const [, issued, replica, exchange, number, mac] = typeof id === "string" ? (name.exec(id) ?? []) : [];
  if (!issued || !replica || !exchange || !mac) return undefined;
  if (!timingSafeEqual(Buffer.from(mac), Buffer.from(macOf(issued, key)))) return undefined;
  return { replica, exchange, id: Number(number) };
}

/** Longest id of a request, characters, that is passed on to other replicas. */
const maxIdLength = 128;

/** The id of the request that a client cancels. */
export function cancelledRequest(message: JSONRPCMessage): RequestId | undefined {
  if (!isJSONRPCNotification(message) || message.method !== "notifications/cancelled") return undefined;
  return requestIdOf(message.params?.requestId);
}

export function requestIdOf(id: unknown): RequestId | undefined {
  return typeof id === "number" || (typeof id === "string" && id.length <= maxIdLength) ? id : undefined;
}

/** A message that came from another replica. */
export function isMessage(value: unknown): value is JSONRPCMessage & JsonObject {
  return isObject(value) && value.jsonrpc === "2.0";
}

/** The exchanges of this replica, by the session that they belong to. */
export class Exchanges {
  readonly #bySession = new Map<string, Map<string, Exchange>>();

  /** @param session hash of the session's handle */
  add(session: string, exchange: Exchange): void {
    const own = this.#bySession.get(session) ?? new Map<string, Exchange>();
    this.#bySession.set(session, own);
    own.set(exchange.id, exchange);
  }

  remove(session: string, exchange: Exchange): void {
    const own = this.#bySession.get(session);
    own?.delete(exchange.id);
    if (own?.size === 0) this.#bySession.delete(session);
  }

  /** How many a session has open. */
  count(session: string): number {
    return this.#bySession.get(session)?.size ?? 0;
  }

  deliver(session: string, exchange: string, message: JSONRPCMessage): void {
    this.#bySession.get(session)?.get(exchange)?.deliver(message);
  }

  /** Cancels a request of the session. False: no exchange here handles it. */
  cancel(session: string, id: RequestId, message: JSONRPCMessage): boolean {
    const handling = [...(this.#bySession.get(session)?.values() ?? [])].filter((one) => one.handles(id));
    for (const exchange of handling) exchange.deliver(message);
    return handling.length > 0;
  }

  async close(): Promise<void> {
    const all = [...this.#bySession.values()].flatMap((own) => [...own.values()]);
    await Promise.all(all.map((exchange) => exchange.close()));
  }
}
