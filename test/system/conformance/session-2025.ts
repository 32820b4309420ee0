import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { OAuthClientInformationMixed, OAuthTokens } from "@modelcontextprotocol/sdk/shared/auth.js";
import { AuthorizationFailed, type McpSession, type SessionOptions, withPerson } from "./mcp-session.ts";
import { clientProvider, type SignInState } from "./sign-in-state.ts";

/** The SDK's first major version: revisions up to 2025-11-25, with `initialize`. */
export function session2025(options: SessionOptions): McpSession {
  const memory: SignInState<OAuthClientInformationMixed, OAuthTokens> = {};
  const provider = clientProvider(memory, options.redirectUri);
  const newTransport = () =>
    new StreamableHTTPClientTransport(new URL(options.url), { authProvider: provider, fetch: options.fetch });
  let transport = newTransport();
  let client = new Client({ name: "conformance", version: "1.0.0" });

  const trip = async () => {
    const { location } = memory;
    if (!location) return false;
    memory.location = undefined;
    const params = await options.authorize(location);
    const code = params.get("code");
    if (!code || params.get("state") !== memory.state) throw new AuthorizationFailed(params);
    await transport.finishAuth(code);
    return true;
  };
  return {
    connect: () =>
      withPerson(() => {
        transport = newTransport();
        client = new Client({ name: "conformance", version: "1.0.0" });
        return client.connect(transport);
      }, trip),
    listTools: async () => (await withPerson(() => client.listTools(), trip)).tools,
    callTool: (name) => withPerson(() => client.callTool({ name, arguments: {} }), trip),
    close: () => client.close(),
  };
}
