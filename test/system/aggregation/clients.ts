import { legacyClient } from "./legacy-client.ts";
import type { LegacyRevision } from "./members/sessions-member.ts";
import { modernClient } from "./modern-client.ts";

/** The clients of the matrix: the SDK's first major version for three revisions, and its second in both of its eras. */
export const clientKinds = [
  "2025-03-26",
  "2025-06-18",
  "2025-11-25",
  "2025-11-25, second SDK",
  "2026-07-28",
] as const;
export type ClientKind = (typeof clientKinds)[number];

/** One message from the server. */
export interface Message {
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** The result of `tools/call`. */
export interface Called {
  /** The texts of its content, joined. */
  readonly text: string;
  readonly isError: boolean;
  readonly content: readonly Readonly<Record<string, unknown>>[];
  readonly structuredContent?: unknown;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly onprogress?: (progress: { progress: number; total?: number; message?: string }) => void;
}

/** A connected MCP client of either SDK. */
export interface TestClient {
  readonly instructions: string | undefined;
  /** Undefined for a client without sessions. */
  sessionId(): string | undefined;
  /** The revision that was negotiated. */
  revision(): string | undefined;
  /** What the server has asked for: elicitation, sampling, roots. */
  readonly asked: Message[];
  /** Other notifications that have arrived. */
  readonly notified: Message[];
  listTools(): Promise<readonly { readonly name: string; readonly [key: string]: unknown }[]>;
  toolNames(): Promise<string[]>;
  call(name: string, args?: Record<string, unknown>, options?: CallOptions): Promise<Called>;
  listPrompts(): Promise<readonly { readonly name: string }[]>;
  getPrompt(name: string, args: Record<string, string>): Promise<string>;
  listResources(): Promise<readonly { readonly uri: string; readonly name: string }[]>;
  listTemplates(): Promise<readonly { readonly uriTemplate: string; readonly name: string }[]>;
  read(uri: string): Promise<readonly { readonly uri: string; readonly text?: unknown }[]>;
  complete(ref: CompletionRef, argument: { name: string; value: string }): Promise<string[]>;
  /** Asks for notifications of changed lists, and of this resource. */
  follow(uri?: string): Promise<void>;
  /** As a client that has enough: ends the session, where there is one. */
  end(): Promise<void>;
  close(): Promise<void>;
}

export type CompletionRef =
  | { readonly type: "ref/prompt"; readonly name: string }
  | { readonly type: "ref/resource"; readonly uri: string };

export interface ClientOptions {
  readonly url: string;
  readonly fetch: typeof globalThis.fetch;
  readonly token: string;
  /** Capabilities that the client does not declare. */
  readonly without?: readonly ("elicitation" | "sampling" | "roots")[];
  /** The user's answer; default: accepts with the name Alice. */
  readonly answer?: (params: Readonly<Record<string, unknown>>) => Promise<"accept" | "decline" | "cancel">;
}

/** Connects a client of this kind. */
export function connect(kind: ClientKind, options: ClientOptions): Promise<TestClient> {
  if (kind === "2026-07-28") return modernClient({ ...options, mode: { pin: kind } });
  if (kind === "2025-11-25, second SDK") return modernClient({ ...options, mode: "legacy" });
  return legacyClient({ ...options, revision: kind satisfies LegacyRevision });
}

/** What every client answers to the server, as far as the revision has it. */
export const answers = {
  content: { name: "Alice" },
  sampled: { model: "test", role: "assistant" as const, content: { type: "text" as const, text: "sampled" } },
  roots: { roots: [{ uri: "file:///home/alice", name: "home" }] },
};

/** A fetch with the token. */
export function bearing({ fetch, token }: ClientOptions): typeof globalThis.fetch {
  return (input, init) => {
    const headers = new Headers(init?.headers);
    headers.set("authorization", `Bearer ${token}`);
    return fetch(input, { ...init, headers });
  };
}

/** The texts of a result's content. */
export function calledOf(result: {
  readonly content?: unknown;
  readonly isError?: unknown;
  readonly structuredContent?: unknown;
}): Called {
  const content = Array.isArray(result.content) ? result.content : [];
  return {
    text: content.flatMap((one) => (one.type === "text" ? [String(one.text)] : [])).join("\n"),
    isError: result.isError === true,
    content,
    ...(result.structuredContent !== undefined && { structuredContent: result.structuredContent }),
  };
}
