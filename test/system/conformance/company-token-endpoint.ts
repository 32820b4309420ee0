import { text } from "node:stream/consumers";
import { listen } from "../../../dev/demo/listen.ts";

/**
 * Token endpoint of the company's provider, for auth/enterprise-managed-authorization. The scenario's provider has neither an
 * authorization endpoint nor keys, so that sign-in there is not possible; it issues an ID token instead. The person signs in at the
 * company's provider, and this endpoint replaces their ID token with the scenario's. The rest of the exchange passes unchanged, and
 * the scenario checks it.
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
    /** Sets this scenario's provider as the target. */
    translate(context: Readonly<Record<string, string>>): void {
      idToken = context.idp_id_token ?? "";
      target = context.idp_token_endpoint ?? "";
    },
    close: () => server.close(),
  };
}
