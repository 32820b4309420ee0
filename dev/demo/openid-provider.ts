import { html } from "ghtml";
import type { ClientMetadata, JWK } from "oidc-provider";
import { demoPage } from "./demo-page.ts";
import { type OidcServer, oidcServer } from "./oidc-server.ts";

/**
 * The company's OpenID provider: a real oidc-provider with the accounts alice and bob. `clients` are its
 * relying parties; they may use the code flow with PKCE, refresh tokens (rotated) and RP-initiated logout.
 */
export function openidProvider(options: {
  clients: readonly ClientMetadata[];
  port?: number;
  portSetting?: string;
  /** Lifetime of its access tokens, seconds. */
  accessTokenTtl?: number;
  /** Private signing keys; default: a new RS256 and a new ES256 key. */
  keys?: readonly JWK[];
}): Promise<OidcServer> {
  return oidcServer({
    title: "Company sign-in",
    cookiePrefix: "company",
    consent: "first_party",
    port: options.port,
    portSetting: options.portSetting,
    accounts: [
      {
        login: "alice",
        password: "wonderland",
        sub: "alice",
        email: "alice@example.com",
        name: "Alice Liddell",
        groups: ["engineering", "everyone"],
      },
      {
        login: "bob",
        password: "builder",
        sub: "bob",
        email: "bob@example.com",
        name: "Bob Builder",
        groups: ["support", "everyone"],
      },
    ],
    configure: () => ({
      ...(options.keys && { jwks: { keys: [...options.keys] } }),
      clients: options.clients.map((client) => ({
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
        ...client,
      })),
      scopes: ["openid", "profile", "email", "groups", "offline_access"],
      ttl: {
        AccessToken: options.accessTokenTtl ?? 600,
        IdToken: 600,
        RefreshToken: 86_400,
        Session: 86_400,
        Interaction: 600,
        Grant: 86_400,
      },
      features: {
        devInteractions: { enabled: false },
        revocation: { enabled: true },
        introspection: { enabled: true },
        userinfo: { enabled: true },
        backchannelLogout: { enabled: true },
        rpInitiatedLogout: {
          enabled: true,
          logoutSource(ctx, form) {
            ctx.body = demoPage(
              "Company sign-in",
              html`<p>Sign out of the company as well?</p>!${form}
<button type="submit" form="op.logoutForm" name="logout" value="yes">Sign out</button>
<button type="submit" form="op.logoutForm">Stay signed in</button>`,
            );
          },
          postLogoutSuccessSource(ctx) {
            ctx.body = demoPage("Company sign-in", html`<p>You are signed out.</p>`);
          },
        },
      },
    }),
  });
}
