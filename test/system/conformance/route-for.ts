/** What the suite hands a client: where the scenario's server is, and credentials where it takes some. */
export interface ScenarioServer {
  readonly scenario: string;
  readonly revision: string;
  readonly serverUrl: string;
  readonly context: Readonly<Record<string, string>>;
}

/** Places on this machine that some routes refer to. */
export interface RoutePlaces {
  /** Token endpoint of the company's provider, for the identity assertion grant. */
  readonly companyTokenUrl: string;
  /** Where the platform puts a workload's identity. */
  readonly workloadIdentityFile: string;
}

/**
 * The route an operator would write for the scenario's server: nothing but its URL, plus the credentials that
 * the scenario says were agreed beforehand.
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
