import {
  InMemoryServerEventBus,
  ProtocolError,
  ProtocolErrorCode,
  type ServerEvent,
  type ServerEventBus,
  WebStandardStreamableHTTPServerTransport,
} from "@modelcontextprotocol/server";
import { hashedHandle } from "../store/hashed-handle.ts";
import { ClientStream, type ClientStreamDeps } from "./client-stream.ts";
import { ClientStreams } from "./client-streams.ts";
import type { Conversation } from "./conversation.ts";
import { Exchange, type Exchanges } from "./exchanges.ts";
import { type ClientRequest, limitUnsent, noResponse } from "./http.ts";
import { anyObject, arrayOf, isObject, type JsonObject, stringOf } from "./json.ts";
import { answerMs, asksClient, namedQuestion } from "./relays.ts";
import { type AnswerRequest, serverFor } from "./servers.ts";

export type NoticeDeps = ClientStreamDeps & {
  readonly exchanges: Exchanges;
  readonly replicaId: string;
  readonly answer: (conversation: Conversation) => AnswerRequest;
};

/** A request that listens. */
export interface Listening {
  /** Its end, also that of one which the SDK rejects, ends what was opened for it. */
  readonly received: Pick<ClientRequest, "onEnd">;
  /** `notifications` of the request. */
  readonly filter: unknown;
  /** Ends the stream. */
  readonly end: () => void;
}

/** Tells clients what members say outside of calls, and that lists have changed. */
export interface Notices {
  readonly streams: ClientStreams;
  /** GET of a client with a session. */
  openGet(conversation: Conversation, received: ClientRequest): Promise<Response>;
  /** The events of `subscriptions/listen`. */
  openListen(conversation: Conversation, listening: Listening): Promise<ServerEventBus>;
  /** Ends the stream of a client that does not read. */
  limitUnsent(response: Response, received: Pick<ClientRequest, "end">): Response;
}

export function notices(deps: NoticeDeps): Notices {
  const streams = new ClientStreams(deps);
  const limited = (response: Response, { end }: Pick<ClientRequest, "end">) =>
    limitUnsent(response, () => {
      deps.metrics.limitsReached.inc({ limit: "aggregation_unsent_bytes" });
      end();
    });

  return {
    streams,
    async openGet(conversation, received) {
      const { request, onEnd } = received;
      const session = hashedHandle(conversation.session.handle);
      const transport = new WebStandardStreamableHTTPServerTransport({ sessionIdGenerator: undefined });
      const exchange = new Exchange(
        transport,
        { replica: deps.replicaId, key: conversation.session.state.stateKey },
        () => {},
      );
      const server = serverFor(conversation.call.route, "", deps.answer(conversation));
      await server.connect(exchange);
      await exchange.replay({ ...conversation.session.state.initialize });
      if (request.signal.aborted) {
        await server.close();
        return noResponse();
      }
      const response = await transport.handleRequest(request);
      if (!response.ok) {
        await server.close();
        return response;
      }
      const stream: ClientStream = new ClientStream(
        deps,
        conversation,
        { tools: true, prompts: true, resources: true, uris: "subscribed", opensSessions: false },
        {
          send: (method, params) => {
            server.notification({ method, params: { ...params } }).catch(() => {});
          },
          ask: (naming, method, params, signal) => {
            if (!asksClient(method))
              throw new ProtocolError(ProtocolErrorCode.MethodNotFound, "Method not found");
            const question = { method, params: { ...namedQuestion(naming, method, params) } };
            return server.request(question, anyObject, { signal, timeout: answerMs });
          },
          end: () => {
            deps.exchanges.remove(session, exchange);
            void server.close();
          },
        },
      );
      deps.exchanges.add(session, exchange);
      streams.add(stream);
      // The store is unavailable: the client opens the stream again.
      stream.open().catch(() => streams.remove(stream));
      onEnd(() => streams.remove(stream));
      return limited(response, received);
    },

    async openListen(conversation, { received, filter, end }) {
      const bus = new EarlyEventBus();
      const wanted: JsonObject = isObject(filter) ? filter : {};
      const stream = new ClientStream(
        deps,
        conversation,
        {
          tools: wanted.toolsListChanged === true,
          prompts: wanted.promptsListChanged === true,
          resources: wanted.resourcesListChanged === true,
          uris: arrayOf(wanted.resourceSubscriptions).flatMap((uri) => stringOf(uri) ?? []),
          opensSessions: true,
        },
        {
          send: (method, params) => {
            const event = eventOf(method, params);
            if (event) bus.publish(event);
          },
          end,
        },
      );
      streams.add(stream);
      received.onEnd(() => streams.remove(stream));
      // The SDK acknowledges at once: what changes from then on must be heard.
      await stream.open();
      return bus;
    },

    limitUnsent: limited,
  };
}

/** Events that come before anybody listens. */
const maxEarly = 100;

/** Keeps events until the SDK subscribes: streams of members are opened before it acknowledges. */
class EarlyEventBus implements ServerEventBus {
  readonly #bus = new InMemoryServerEventBus();
  #early: ServerEvent[] | undefined = [];

  publish(event: ServerEvent): void {
    if (this.#early === undefined) this.#bus.publish(event);
    else if (this.#early.length < maxEarly) this.#early.push(event);
  }

  subscribe(listener: (event: ServerEvent) => void): () => void {
    const unsubscribe = this.#bus.subscribe(listener);
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const event of early) this.#bus.publish(event);
    return unsubscribe;
  }
}

function eventOf(method: string, params: JsonObject): ServerEvent | undefined {
  const { uri, ...rest } = params;
  switch (method) {
    case "notifications/tools/list_changed":
      return { kind: "tools_list_changed", params: rest };
    case "notifications/prompts/list_changed":
      return { kind: "prompts_list_changed", params: rest };
    case "notifications/resources/list_changed":
      return { kind: "resources_list_changed", params: rest };
    case "notifications/resources/updated":
      return typeof uri === "string" ? { kind: "resource_updated", uri, params: rest } : undefined;
    default:
      return undefined;
  }
}
