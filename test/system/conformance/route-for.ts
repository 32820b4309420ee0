/** The suite's input for a client: the scenario's server, and its credentials, if any. */
export interface ScenarioServer {
  readonly scenario: string;
  readonly revision: string;
  readonly serverUrl: string;
  readonly context: Readonly<Record<string, string>>;
}

/** Local URLs and paths that some routes refer to. */
export interface RoutePlaces {
  /** Token endpoint of the company's provider, for the identity assertion grant. */
  readonly companyTokenUrl: string;
  /** Path of the platform's workload identity. */
  readonly workloadIdentityFile: string;
}

/**
 * The route that an operator would write for the scenario's server: its URL, and the credentials that the scenario defines as
 * preconfigured.
 */
export function routeFor(server: ScenarioServer, id: string, host: string, places: RoutePlaces) {
  return {
    id,
    name: server.scenario,
    from: `https://${host}/mcp`,
    to: server.serverUrl,
    mcp: { server: serverFor(server, places) },
    policy: [{ allow: { and: [{ authenticated_user: true }] } }],
  };
}

function serverFor({ scenario, context }: ScenarioServer, places: RoutePlaces): Record<string, unknown> {
  switch (scenario) {
    case "auth/pre-registration":
      return { upstream_oauth2: { client_id: context.client_id, client_secret: context.client_secret } };
    case "auth/client-credentials-basic":
      return {
        upstream_auth: {
          client_credentials: { client_id: context.client_id, client_secret: context.client_secret },
        },
      };
    case "auth/client-credentials-jwt":
      return {
        upstream_auth: {
          client_credentials: {
            client_id: context.client_id,
            private_key: context.private_key_pem,
            signing_alg: context.signing_algorithm,
            auth_style: "private_key_jwt",
          },
        },
      };
    case "auth/wif-jwt-bearer":
      return {
        upstream_auth: {
          client_credentials: {
            client_id: context.client_id,
            auth_style: "none",
            workload_identity_file: places.workloadIdentityFile,
          },
        },
      };
    case "auth/enterprise-managed-authorization":
      return {
        upstream_auth: {
          id_jag: {
            idp_token_url: places.companyTokenUrl,
            idp_client_id: context.idp_client_id,
            client_id: context.client_id,
            client_secret: context.client_secret,
            auth_style: "client_secret_basic",
          },
        },
      };
    default:
      return {};
  }
}
