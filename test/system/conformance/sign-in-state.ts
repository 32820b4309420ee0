/** The state of an MCP client between the steps of its OAuth flow with our authorization server. */
export interface SignInState<Information, Tokens> {
  information?: Information;
  tokens?: Tokens;
  verifier?: string;
  state?: string;
  /** The SDK's authorization URL; consumed when the flow starts. */
  location?: URL;
}

/** An `OAuthClientProvider` in memory, for either major version of the SDK. */
export function clientProvider<Information, Tokens>(
  memory: SignInState<Information, Tokens>,
  redirectUri: string,
) {
  return {
    redirectUrl: redirectUri,
    clientMetadata: {
      client_name: "conformance client",
      redirect_uris: [redirectUri],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
      application_type: "native",
    },
    state: () => {
      memory.state = crypto.randomUUID();
      return memory.state;
    },
    clientInformation: () => memory.information,
    saveClientInformation: (information: Information) => {
      memory.information = information;
    },
    tokens: () => memory.tokens,
    saveTokens: (tokens: Tokens) => {
      memory.tokens = tokens;
    },
    redirectToAuthorization: (location: URL) => {
      memory.location = location;
    },
    saveCodeVerifier: (verifier: string) => {
      memory.verifier = verifier;
    },
    codeVerifier: () => memory.verifier ?? "",
    /** The SDK calls this when a refresh token is rejected (`invalid_grant`), and then starts over. */
    invalidateCredentials: (what: string) => {
      if (what === "all" || what === "tokens") memory.tokens = undefined;
      if (what === "all" || what === "client") memory.information = undefined;
    },
  };
}
