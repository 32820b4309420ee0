/** OpenID Connect's, which oidc-provider refuses without the scope openid. None of them lowers what is asked of the person. */
const withOpenidOnly = new Set(["nonce", "acr_values", "claims", "claims_locales", "id_token_hint"]);
const prompts = new Set(["none", "login", "consent"]);
/** A client that posts these shall not find them in an address. */
const secrets = new Set(["client_secret", "client_assertion", "client_assertion_type"]);

/**
 * The parameters of an authorization request that mean something here: those without a value are left out (RFC 6749 section 3.1), as
 * are values of `prompt` that we do not know (`select_account`) and, without the scope openid, what only OpenID Connect defines.
 */
export function authorizationParameters(given: URLSearchParams): URLSearchParams {
  const read = new URLSearchParams();
  const openid = given.getAll("scope").some((scope) => scope.split(" ").includes("openid"));
  for (const [name, value] of given) {
    if (value === "" || secrets.has(name) || (!openid && withOpenidOnly.has(name))) continue;
    const kept =
      name === "prompt"
        ? value
            .split(/ +/)
            .filter((one) => prompts.has(one))
            .join(" ")
        : value;
    if (kept !== "") read.append(name, kept);
  }
  return read;
}
