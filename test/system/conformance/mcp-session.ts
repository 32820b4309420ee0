/** One MCP client of one server, with either major version of the SDK. */
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
  /** Opens an authorization URL as the person and returns the callback's parameters. */
  readonly authorize: (location: URL) => Promise<URLSearchParams>;
}

/** An authorization that ended with an error, which the SDK leaves to the application. */
export class AuthorizationFailed extends Error {
  constructor(params: URLSearchParams) {
    super(`authorization refused: ${params.get("error")}: ${params.get("error_description") ?? ""}`);
  }
}

/**
 * Runs `action`. When the SDK fails because a person is needed (at most `maxFlows` times), runs `authorize` and repeats it, as every
 * application of the SDK has to do.
 */
export async function withPerson<T>(
  action: () => Promise<T>,
  authorize: () => Promise<boolean>,
  maxFlows = 4,
): Promise<T> {
  for (let done = 0; ; done += 1) {
    try {
      return await action();
    } catch (error) {
      if (done === maxFlows || !(await authorize())) throw error;
    }
  }
}
