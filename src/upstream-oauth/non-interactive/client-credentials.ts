import { readFile } from "node:fs/promises";
import type { ClientCredentialsSettings } from "../../config/upstream-auth/client-credentials.ts";
import { generateDpopKey } from "../dpop.ts";
import { UpstreamOAuthError } from "../errors.ts";
import { requestToken } from "../token-endpoint.ts";
import { grantTypes, nonInteractiveGrant, requestAt, toToken } from "./grant.ts";

/** RFC 6749 section 4.4; RFC 7523 section 2.1 with a workload's own JWT, section 2.2 with a private key. */
export const clientCredentials = nonInteractiveGrant<ClientCredentialsSettings>({
  async obtain(deps, { route, auth, settings, subject, source }) {
    const scopes = auth.scopes ?? source.scopes;
    const common = { scope: scopes.join(" ") || undefined, resource: source.resource };
    const dpopKey = source.dpop ? await generateDpopKey() : undefined;
    const request = {
      ...requestAt(deps, route, source, auth),
      dpopKey,
    };
    const answer = settings.workloadIdentityFile
      ? await requestToken({
          ...request,
          grantType: grantTypes.jwtBearer,
          parameters: { ...common, assertion: await readWorkloadToken(settings.workloadIdentityFile) },
        })
      : await requestToken({ ...request, grantType: "client_credentials", parameters: common });
    return toToken(route, subject, source, auth.clientId, answer, scopes, dpopKey);
  },
  async check(_deps, _route, { workloadIdentityFile: file }) {
    if (file === undefined) return;
    await readFile(file).catch((cause: unknown) => {
      throw new UpstreamOAuthError("key_unusable", `the workload identity file ${file} cannot be read`, {
        cause,
      });
    });
  },
});

async function readWorkloadToken(path: string): Promise<string> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (cause) {
    throw new UpstreamOAuthError("key_unusable", "the workload identity file cannot be read", { cause });
  }
}
