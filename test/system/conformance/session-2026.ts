import {
  Client,
  type StoredOAuthClientInformation,
  type StoredOAuthTokens,
  StreamableHTTPClientTransport,
} from "@modelcontextprotocol/client";
import { AuthorizationFailed, type McpSession, type SessionOptions, withPerson } from "./mcp-session.ts";
import { clientProvider, type SignInState } from "./sign-in-state.ts";

/** The SDK's second major version, pinned to 2026-07-28: without `initialize` and sessions. */
export function session2026(options: SessionOptions): McpSession {
  const memory: SignInState<StoredOAuthClientInformation, StoredOAuthTokens> = {};
  const provider = clientProvider(memory, options.redirectUri);
  const newTransport = () =>
    new StreamableHTTPClientTransport(new URL(options.url), { authProvider: provider, fetch: options.fetch });
  const newClient = () =>
    new Client(
      { name: "conformance", version: "1.0.0" },
      { versionNegotiation: { mode: { pin: "2026-07-28" } } },
    );
  let transport = newTransport();
  let client = newClient();

  const trip = async () => {
    const { location } = memory;
    if (!location) return false;
    memory.location = undefined;
    const params = await options.authorize(location);
    if (!params.get("code") || params.get("state") !== memory.state) throw new AuthorizationFailed(params);
    await transport.finishAuth(params);
    return true;
  };
  return {
    connect: () =>
      withPerson(() => {
        transport = newTransport();
        client = newClient();
        return client.connect(transport);
      }, trip),
    listTools: async () => (await withPerson(() => client.listTools(), trip)).tools,
    callTool: (name) => withPerson(() => client.callTool({ name, arguments: {} }), trip),
    close: () => client.close(),
  };
}
