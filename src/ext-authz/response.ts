import { denialBody } from "../policy/policy.ts";
import { pageHeaders } from "../server/http/send-page.ts";
import type { AllowMetadata, Decision, Header } from "./decision.ts";
import type { CheckResponse } from "./wire/encode.ts";

/** `denied` adds the headers common to all of the gateway's responses. */
const html = Object.entries(pageHeaders()).filter(
  ([name]) => name !== "cache-control" && name !== "x-content-type-options",
);
const json: readonly Header[] = [["content-type", "application/json"]];

/** google.rpc.Code; Envoy only checks whether it is OK. */
const ok = 0;
const permissionDenied = 7;
const unauthenticated = 16;

/**
 * Converts a decision to protobuf.
 *
 * @param answerHeaders added to the gateway's own responses (CORS), not to the upstream's.
 * @param page HTML body of a challenge or denial, for a person
 */
export function response(
  decision: Decision,
  requestId: string,
  answerHeaders: readonly Header[],
  page?: string,
): CheckResponse {
  switch (decision.kind) {
    case "allow":
      return {
        status: { code: ok },
        okResponse: {
          headers: decision.setHeaders,
          headersToRemove: decision.removeHeaders,
          responseHeadersToAdd: decision.responseHeaders,
        },
        dynamicMetadata: struct(decision.metadata),
      };
    case "challenge":
      return denied(unauthenticated, 401, page ?? decision.body, [
        ["www-authenticate", decision.wwwAuthenticate],
        ...(page === undefined ? json : html),
        ...decision.headers,
        ...answerHeaders,
      ]);
    case "deny": {
      const { status, code, message } = decision;
      const body = page ?? denialBody(code, message, requestId);
      return denied(permissionDenied, status, body, [
        ...(page === undefined ? json : html),
        ...decision.headers,
        ...answerHeaders,
      ]);
    }
    case "reply":
      // A denial for Envoy whatever its status: the request goes no further.
      return denied(permissionDenied, decision.status, decision.body, [
        // A preflight response's own CORS headers take precedence.
        ...answerHeaders.filter(([name]) => !decision.headers.some(([other]) => other === name)),
        ...decision.headers,
      ]);
    case "redirect":
      return denied(unauthenticated, 302, "", [["location", decision.location], ...decision.headers]);
  }
}

function denied(code: number, status: number, body: string, headers: readonly Header[]): CheckResponse {
  const safe: Header[] = [...headers, ["cache-control", "no-store"], ["x-content-type-options", "nosniff"]];
  return { status: { code }, deniedResponse: { status: { code: status }, headers: safe, body } };
}

function struct(metadata: AllowMetadata): CheckResponse["dynamicMetadata"] {
  const fields: Record<string, { stringValue: string } | { numberValue: number }> = {};
  for (const name in metadata) {
    const value = metadata[name as keyof AllowMetadata];
    if (value !== undefined) {
      fields[name] = typeof value === "number" ? { numberValue: value } : { stringValue: value };
    }
  }
  return { fields };
}
