import { EventEmitter, once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { type Listener, listen } from "../../../../dev/demo/listen.ts";
import { type RecordedRequest, recordRequests } from "../../../../dev/demo/record-requests.ts";

/** How a member's HTTP server behaves: as a server should, or as some do. */
export type Behavior = "serves" | "hangs" | "answers garbage" | "fails";

/** A running MCP server behind an aggregated route. */
export interface Member {
  /** The MCP endpoint. */
  readonly url: string;
  /** What it has received, tokens included. */
  readonly requests: readonly RecordedRequest[];
  behave(behavior: Behavior): void;
  /** Stops listening; `start` listens on the same port again. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Forgets all sessions, as after a restart. */
  forgetSessions(): Promise<void>;
  /** Adds the tool `added`, or removes it, and notifies clients. */
  changeTools(): void;
  /** Notifies subscribers that the resource `memo://one` has changed. */
  touch(): void;
  /** Resolves when a call of the tool `wait` is running. */
  waiting(): Promise<void>;
  /** Ends running calls of `wait` with a result. */
  finish(): void;
  /** Number of calls of `wait` that were cancelled. */
  cancelled(): number;
  close(): Promise<void>;
}

/** What the tools of a member share with the test. */
export class Signals extends EventEmitter {
  cancelled = 0;
  waiting = 0;
  added = false;
  constructor() {
    super();
    this.setMaxListeners(0);
  }

  /** The tool `wait`: ends when the test says so, or when the call is cancelled. */
  async wait(signal: AbortSignal): Promise<string> {
    this.waiting++;
    this.emit("waiting");
    try {
      await once(this, "finish", { signal });
      return "waited";
    } catch (error) {
      this.cancelled++;
      throw error;
    } finally {
      this.waiting--;
    }
  }
}

/** What differs between members. */
export interface Implementation {
  /** Serves one request whose body has been read. */
  handle(request: IncomingMessage, response: ServerResponse, body: string): Promise<void>;
  forgetSessions?(): Promise<void>;
  toolsChanged(): void;
  resourceUpdated(uri: string): void;
  close?(): Promise<void>;
}

/** The HTTP server of a member, with the faults that a test may want. */
export async function startMember(
  signals: Signals,
  { handle, ...implementation }: Implementation,
  path = "/mcp",
): Promise<Member> {
  let behavior: Behavior = "serves";
  const recorded = recordRequests(async (request, response, body) => {
    if (behavior === "serves") return handle(request, response, body);
    if (behavior === "fails") return void response.writeHead(500).end("Internal Server Error");
    if (behavior === "hangs") return;
    response.writeHead(200, { "content-type": "application/json" }).end('{"jsonrpc":"1.0", "result": [');
  });
  let listener: Listener = await listen(recorded.handle);
  const { port } = listener;
  return {
    url: `http://127.0.0.1:${port}${path}`,
    requests: recorded.requests,
    behave(wanted) {
      behavior = wanted;
    },
    stop: () => listener.close(),
    async start() {
      listener = await listen(recorded.handle, port);
    },
    async forgetSessions() {
      await implementation.forgetSessions?.();
    },
    changeTools() {
      signals.added = !signals.added;
      signals.emit("tools");
      implementation.toolsChanged();
    },
    touch: () => implementation.resourceUpdated("memo://one"),
    async waiting() {
      if (signals.waiting === 0) await once(signals, "waiting");
    },
    finish: () => void signals.emit("finish"),
    cancelled: () => signals.cancelled,
    async close() {
      await implementation.close?.();
      await listener.close();
    },
  };
}
