import { randomUUID } from "node:crypto";
import type { OAuthClientProvider } from "@modelcontextprotocol/sdk/client/auth.js";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { OAuthClientInformationMixed, OAuthTokens } from "@modelcontextprotocol/sdk/shared/auth.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { listen } from "./listen.ts";

/** A typical MCP client: the SDK's, with its OAuth client and a loopback redirect URI. */
export interface McpClient {
  /** Connects; if the server requires authorization, runs it in the user's browser and connects again. */
  connect(): Promise<Client>;
  /** Runs `action` on a connected client; if the server requires more authorization, runs it again afterwards. */
  run<T>(action: (client: Client) => Promise<T>): Promise<T>;
  /** The current external token and its refresh token. */
  tokens(): OAuthTokens | undefined;
  /** How often the browser was opened. */
  authorizations(): number;
  /** Drops the tokens and, with `all`, the registration. */
  forget(what: "tokens" | "all"): void;
  close(): Promise<void>;
}

/**
 * @param options.browse completes the authorization at this URL in the browser, until it is back at the client's redirect URI.
 */
export async function mcpClient(options: {
  url: string;
  fetch: typeof globalThis.fetch;
  browse: (authorizationUrl: URL) => Promise<unknown>;
  name?: string;
  /** Requested at registration and authorization; default: those that the server names. */
  scope?: string;
  /** Opens a URL for the user, at the server's request (URL mode elicitation). Default: the client cannot. */
  openLink?: (url: string) => Promise<unknown>;
}): Promise<McpClient> {
  let answer = Promise.withResolvers<URLSearchParams>();
  const listener = await listen((request, response) => {
    const url = new URL(request.url ?? "/", "http://127.0.0.1");
    response.writeHead(200, { "content-type": "text/html" });
    response.end("<!doctype html><title>Done</title><p>You can close this window.</p>");
    if (url.pathname === "/callback") answer.resolve(url.searchParams);
  });
  const redirectUrl = `${listener.url}/callback`;
  const state = randomUUID();
  let information: OAuthClientInformationMixed | undefined;
  let tokens: OAuthTokens | undefined;
  let verifier = "";
  let authorizations = 0;
  const clients: Client[] = [];
  /** The client of the last `run`. */
  let former: Client | undefined;

  const provider: OAuthClientProvider = {
    redirectUrl,
    clientMetadata: {
      client_name: options.name ?? "Demo MCP client",
      redirect_uris: [redirectUrl],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
      ...(options.scope && { scope: options.scope }),
    },
    state: () => state,
    clientInformation: () => information,
    saveClientInformation(saved) {
      information = saved;
    },
    tokens: () => tokens,
    saveTokens(saved) {
      tokens = saved;
    },
    saveCodeVerifier(saved) {
      verifier = saved;
    },
    codeVerifier: () => verifier,
    async redirectToAuthorization(url) {
      authorizations += 1;
      answer = Promise.withResolvers();
      await options.browse(url);
    },
    invalidateCredentials(scope) {
      if (scope === "all" || scope === "client") information = undefined;
      if (scope === "all" || scope === "tokens") tokens = undefined;
    },
  };

  async function connect(): Promise<Client> {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof UnauthorizedError)) throw error;
    }
    await finishTrip();
    return attempt();
  }
  /** Redeems the code from the redirect. */
  async function finishTrip(): Promise<void> {
    const parameters = await answer.promise;
    const code = parameters.get("code");
    if (parameters.get("state") !== state)
      throw new Error("the response has a different state than the request");
    if (!code) throw new Error(`${parameters.get("error")}: ${parameters.get("error_description") ?? ""}`);
    await newTransport().finishAuth(code);
  }
  async function attempt(): Promise<Client> {
    const { openLink } = options;
    const capabilities = openLink ? { elicitation: { url: {} } } : {};
    const client = new Client({ name: options.name ?? "demo", version: "1.0.0" }, { capabilities });
    if (openLink)
      client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
        if (params.mode !== "url") return { action: "decline" };
        await openLink(params.url);
        return { action: "accept" };
      });
    await client.connect(newTransport());
    clients.push(client);
    return client;
  }
  function newTransport(): StreamableHTTPClientTransport {
    return new StreamableHTTPClientTransport(new URL(options.url), {
      authProvider: provider,
      fetch: options.fetch,
    });
  }

  return {
    connect,
    async run(action) {
      // Its event stream, when it is opened again, would begin an authorization of its own beside this one.
      await former?.close();
      const client = await connect();
      former = client;
      try {
        return await action(client);
      } catch (error) {
        if (!(error instanceof UnauthorizedError)) throw error;
      }
      await finishTrip();
      former = await attempt();
      return action(former);
    },
    tokens: () => tokens,
    authorizations: () => authorizations,
    forget(what) {
      tokens = undefined;
      if (what === "all") information = undefined;
    },
    async close() {
      for (const client of clients) await client.close();
      await listener.close();
    },
  };
}
