import { text } from "node:stream/consumers";
import { listen } from "../../../dev/demo/listen.ts";

/**
 * Token endpoint of the company's provider, for auth/enterprise-managed-authorization. The scenario's own
 * provider has neither an authorization endpoint nor keys, so nobody can sign in there; it hands out an ID
 * token instead. The person signs in at the company's, and here that ID token is put in the place of theirs;
 * everything else of the exchange goes through as the sidecar sent it, and the scenario judges it.
 */
export async function companyTokenEndpoint() {
  let idToken = "";
  let target = "";
  const server = await listen(async (request, response) => {
    const form = new URLSearchParams(await text(request));
    if (form.get("subject_token")) form.set("subject_token", idToken);
    const authorization = request.headers.authorization;
    const answer = await fetch(target, {
      method: "POST",
      headers: {
        "content-type": "application/x-www-form-urlencoded",
        ...(authorization && { authorization }),
      },
      body: form.toString(),
    });
    response.writeHead(answer.status, { "content-type": "application/json" }).end(await answer.text());
  });
  return {
    url: `${server.url}/token`,
    /** From now on: to this scenario's provider. */
    translate(context: Readonly<Record<string, string>>): void {
      idToken = context.idp_id_token ?? "";
      target = context.idp_token_endpoint ?? "";
    },
    close: () => server.close(),
  };
}
