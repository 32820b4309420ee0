import { randomUUID } from "node:crypto";
import type { OAuthClientProvider } from "@modelcontextprotocol/sdk/client/auth.js";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { OAuthClientInformationMixed, OAuthTokens } from "@modelcontextprotocol/sdk/shared/auth.js";
import { listen } from "./listen.ts";

/** An MCP client as people have it: the SDK's, with its own OAuth client and a redirect URI on loopback. */
export interface McpClient {
  /** Connects; where the server wants authorization, runs it in the person's browser and connects again. */
  connect(): Promise<Client>;
  /** Runs `action` on a connected client; where the server wants more authorization half-way, once more after it. */
  run<T>(action: (client: Client) => Promise<T>): Promise<T>;
  /** What it holds now: the external token and its refresh token. */
  tokens(): OAuthTokens | undefined;
  /** Times the person was sent to the browser. */
  trips(): number;
  /** Forgets the tokens and, with `all`, its registration. */
  forget(what: "tokens" | "all"): void;
  close(): Promise<void>;
}

/**
 * @param options.browse brings the person through the authorization at this URL and returns when the browser
 * has come back to the client's redirect URI.
 */
export async function mcpClient(options: {
  url: string;
  fetch: typeof globalThis.fetch;
  browse: (authorizationUrl: URL) => Promise<unknown>;
  name?: string;
  /** Asked for at registration and authorization; default: what the server names. */
  scope?: string;
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
  let trips = 0;
  const clients: Client[] = [];

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
      trips += 1;
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
  /** Redeems the code that the browser brought back. */
  async function finishTrip(): Promise<void> {
    const parameters = await answer.promise;
    const code = parameters.get("code");
    if (parameters.get("state") !== state) throw new Error("the answer carries another state than we sent");
    if (!code) throw new Error(`${parameters.get("error")}: ${parameters.get("error_description") ?? ""}`);
    await newTransport().finishAuth(code);
  }
  async function attempt(): Promise<Client> {
    const client = new Client({ name: options.name ?? "demo", version: "1.0.0" });
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
      const client = await connect();
      try {
        return await action(client);
      } catch (error) {
        if (!(error instanceof UnauthorizedError)) throw error;
      }
      await finishTrip();
      return action(await attempt());
    },
    tokens: () => tokens,
    trips: () => trips,
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
