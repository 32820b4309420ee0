import type { ToolRules } from "./tool-rules.ts";

/** What the kinds of servers share. */
export interface Common {
  /** As in the file. */
  readonly name: string;
  readonly description?: string;
  readonly tools: ToolRules;
  /** What the person should know; no secrets. */
  readonly notes: readonly string[];
}

/** A server that the bridge starts. */
export interface StdioServer extends Common {
  readonly kind: "stdio";
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** A server with a URL. */
export interface RemoteServer extends Common {
  readonly kind: "remote";
  readonly url: string;
  /** Headers with a credential, with their values. */
  readonly credentials: readonly (readonly [string, string])[];
  /** Other headers. */
  readonly headers: readonly (readonly [string, string])[];
  /** Without credentials: whether the upstream needs none. */
  readonly open: boolean;
}

export type ImportedServer = StdioServer | RemoteServer;

/** Why an entry is not taken over, without any of its values. */
export class NotImportable extends Error {
  readonly fix: string;
  constructor(message: string, fix: string) {
    super(message);
    this.fix = fix;
  }
}
