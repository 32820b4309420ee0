/** One MCP client on one server; either major version of the SDK behind it. */
export interface McpSession {
  connect(): Promise<void>;
  listTools(): Promise<readonly { readonly name: string }[]>;
  callTool(name: string): Promise<unknown>;
  close(): Promise<void>;
}

export interface SessionOptions {
  readonly url: string;
  readonly fetch: typeof globalThis.fetch;
  readonly redirectUri: string;
  /** Takes the person to an authorization URL and brings back the callback's parameters. */
  readonly authorize: (location: URL) => Promise<URLSearchParams>;
}

/** An authorization that ended with an error at the client, as the SDK leaves it to the application to see. */
export class AuthorizationRefused extends Error {
  constructor(params: URLSearchParams) {
    super(`authorization refused: ${params.get("error")}: ${params.get("error_description") ?? ""}`);
  }
}

/**
 * Does `action`, and as often as the SDK gives up because a person is needed (at most `trips` times), sends
 * the person and does it again: what every application around the SDK has to do.
 */
export async function withPerson<T>(
  action: () => Promise<T>,
  trip: () => Promise<boolean>,
  trips = 4,
): Promise<T> {
  for (let done = 0; ; done += 1) {
    try {
      return await action();
    } catch (error) {
      if (done === trips || !(await trip())) throw error;
    }
  }
}
