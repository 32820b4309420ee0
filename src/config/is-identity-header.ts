/** By which proxies and identity providers tell a server behind them who calls: only we may say that. */
const prefixes = [
  "x-pomerium-",
  "x-auth-request-",
  "x-authenticated-",
  "x-webauth-",
  "x-remote-",
  "x-auth-user",
  "x-auth-email",
  "x-auth-name",
  "x-auth-groups",
  "x-auth-roles",
  "x-auth-subject",
  "x-consumer-",
  "x-credential-",
  "x-anonymous-consumer",
  "x-userinfo",
  "x-user-",
  "x-jwt-",
  "x-oidc-",
  "oidc-claim-",
  "x-id-token",
  "x-access-token",
  "x-endpoint-api-userinfo",
  "x-apigateway-api-userinfo",
  "x-forwarded-tls-client-cert",
  "x-client-cert",
  "x-client-verify",
  "x-client-dn",
  "x-ssl-client-",
  "x-ssl-cert",
  "ssl-client-",
  "client-cert",
  "x-arr-clientcert",
  "remote-",
  "x-goog-authenticated-user-",
  "x-goog-iap-",
  "x-amzn-oidc-",
  "x-ms-client-principal",
  "x-ms-token-",
  "x-vouch-",
  "x-authentik-",
  "x-forwarded-user",
  "x-forwarded-email",
  "x-forwarded-groups",
  "x-forwarded-preferred-username",
  "x-forwarded-access-token",
  "x-forwarded-id-token",
  "cf-access-",
  "tailscale-user-",
];
const identifying = new Set([
  "proxy-authorization",
  "x-forwarded-client-cert",
  "dpop",
  "x-user",
  "x-username",
  "x-email",
  "x-groups",
  "x-roles",
]);

/**
 * Whether a request header claims an identity. Underscores count as hyphens, because CGI-like servers read both alike.
 *
 * @param name in lower case.
 */
export function isIdentityHeader(name: string): boolean {
  const plain = name.includes("_") ? name.replaceAll("_", "-") : name;
  return identifying.has(plain) || prefixes.some((prefix) => plain.startsWith(prefix));
}
