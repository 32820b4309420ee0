import { parseArgs } from "node:util";
import { openidProvider } from "./openid-provider.ts";

/*
 * An OpenID provider to try the gateway with, on this machine only, with two made-up users. Its client is the gateway at `--issuer`.
 *
 *   node dev/demo/trial-provider.ts [--port 8444] [--issuer http://localhost:8000]
 */
const { values } = parseArgs({
  options: {
    port: { type: "string", default: "8444" },
    issuer: { type: "string", default: "http://localhost:8000" },
  },
});
const client = {
  client_id: "mcp-gateway",
  client_secret: "trial-secret-of-the-gateway-1234567890",
  redirect_uris: [`${values.issuer}/.pomerium/sign_in/callback`],
  post_logout_redirect_uris: [`${values.issuer}/`],
};
const { issuer, accounts } = await openidProvider({ port: Number(values.port), clients: [client] });
console.log(`issuer         ${issuer}
client id      ${client.client_id}
client secret  ${client.client_secret}
users          ${accounts.map(({ login, password, email }) => `${login} / ${password} (${email})`).join(", ")}`);
