import { endpointUrl, possibleEndpoints } from "../config/endpoint.ts";
import type { Route } from "../config/route.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { FailureCode } from "./failure.ts";
import { detourOf, type ProbeResponse } from "./follow-own-redirects.ts";
import { endpointPlace, endpointReader, isEventStream, streamHeaders, takesNoPost } from "./legacy-stream.ts";
import type { Outward } from "./outward.ts";
import { parseChallenge } from "./parse-challenge.ts";
import { codeOfUnknown, readProbeAnswer } from "./probe-answer.ts";
import { SafeFetchError } from "./safe-fetch-error.ts";
import type { DiscoveryStep } from "./upstream-oauth.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";

interface SessionDeps {
  readonly routes: CurrentRoutes;
  readonly outward: Outward;
}
type OnStep = (step: DiscoveryStep) => void;

/** Opens a session and ends it, at the usual place where the first one is none. @throws UpstreamOAuthError */
export async function openSession(...[deps, route, ...how]: Parameters<typeof initialize>): Promise<void> {
  const [first, second] = possibleEndpoints(route);
  const isOf = (error: unknown, ...codes: FailureCode[]) =>
    error instanceof UpstreamOAuthError && codes.includes(error.code);
  await initialize(deps, first, ...how).catch(async (error: unknown) => {
    if (!second || !isOf(error, "not_an_mcp_server")) throw error;
    await initialize(deps, second, ...how).catch((other: unknown) => {
      const isThere = isOf(other, "credential_missing", "credential_refused", "upstream_endpoint_elsewhere");
      throw isThere ? other : error;
    });
  });
}

/** `request_headers.set`. */
export function setHeaders({ mcp }: Route): Record<string, string> {
  return mcp.kind === "server" ? Object.fromEntries(mcp.requestHeaders.set) : {};
}

/**
 * Opens a session as a client would, and ends it. Only status and headers of the answer are read; of a legacy server's stream its first
 * event.
 *
 * @param credential headers of the routes file, sent to the route's own upstream only, as every call does
 * @param refused what it means when that is refused
 * @throws UpstreamOAuthError
 */
async function initialize(
  deps: SessionDeps,
  route: Route,
  onStep: OnStep,
  credential: Readonly<Record<string, string>>,
  refused: FailureCode = "credential_missing",
): Promise<void> {
  const { outward } = deps;
  const own = { ...setHeaders(route), ...credential };
  const headers = {
    accept: "application/json, text/event-stream",
    "content-type": "application/json",
    ...own,
  };
  const step = { name: "initialize", url: endpointUrl(route) } as const;
  let response: ProbeResponse;
  try {
    response = await outward.probe(route, { method: "POST", headers, body: initializeRequest });
  } catch (error) {
    const failure = UpstreamOAuthError.from(error, "the upstream cannot be asked");
    const status = error instanceof SafeFetchError ? error.status : undefined;
    onStep({ ...step, status, ok: false, finding: failure.message });
    throw failure;
  }
  const { status } = response;
  const session = response.headers.get("mcp-session-id");
  if (session !== null) {
    const end = { method: "DELETE", headers: { ...headers, "mcp-session-id": session } };
    await outward.probe(route, end).catch(() => undefined);
  }
  const answer = readProbeAnswer({ status, contentType: response.headers.get("content-type") });
  const { meaning } = answer;
  let { finding } = answer;
  const refuse = (status: number) => {
    const which =
      refused === "credential_refused" ? "the credential of the routes file" : "a call without one";
    const words = `refuses ${which} (${status})`;
    onStep({ ...step, status, ok: false, finding: words });
    const asks = `the upstream asks for a credential (${status}), and the route sends none`;
    const refuses = `the upstream refuses the credential of the routes file (${status})`;
    return new UpstreamOAuthError(refused, refused === "credential_refused" ? refuses : asks);
  };
  if (meaning === "token_wanted" || status === 403) throw refuse(status);
  if (takesNoPost(status)) {
    const stream = await openStream(deps, route, onStep, own);
    if ("opened" in stream) return;
    if (stream.refused !== undefined) throw refuse(stream.refused);
    if (stream.failure !== undefined) finding += `; ${stream.failure}`;
  }
  if (meaning === "unknown") {
    onStep({ ...step, status, ok: false, finding });
    throw new UpstreamOAuthError(codeOfUnknown(status), `${endpointUrl(route)} ${finding}`);
  }
  const isTaken = status < 300;
  const note = isTaken ? undefined : `the server does not accept initialize (${status}): its owner knows why`;
  const detour = detourOf(response);
  onStep({
    ...step,
    status,
    ok: isTaken,
    finding: (isTaken ? "opens a session" : "does not accept initialize") + detour,
    note,
  });
}

/**
 * Opens the stream of a legacy HTTP+SSE server, if it is one, and ends it when its `endpoint` event has come, which must lead to a place
 * that the gateway passes on.
 *
 * @returns for an answer that is no stream: the status by which it refuses the caller; where there is none, why
 * @throws UpstreamOAuthError `upstream_endpoint_elsewhere`, or `not_an_mcp_server` where no such event comes in time
 */
export async function openStream(
  { outward, routes }: SessionDeps,
  route: Route,
  onStep: OnStep,
  headers: Readonly<Record<string, string>>,
): Promise<{ readonly opened: true } | { readonly refused?: number; readonly failure?: string }> {
  const url = endpointUrl(route);
  let response: ProbeResponse;
  try {
    response = await outward.probeStream(route, { headers: { ...streamHeaders, ...headers } });
  } catch (error) {
    return { failure: UpstreamOAuthError.from(error, "a GET for an event stream").message };
  }
  const { status } = response;
  if (!isEventStream(response)) {
    const challenge =
      status >= 400 ? parseChallenge(response.headers.get("www-authenticate"), url) : undefined;
    const isRefusal = status === 403 || readProbeAnswer({ status, challenge }).meaning === "token_wanted";
    return isRefusal ? { refused: status } : {};
  }
  const step = { name: "initialize", url, status } as const;
  const fail = (code: FailureCode, finding: string) => {
    onStep({ ...step, ok: false, finding });
    return new UpstreamOAuthError(code, `${url} ${finding}`);
  };
  const endpoint = endpointReader()(new Uint8Array(await response.arrayBuffer()));
  if (endpoint === undefined)
    throw fail(
      "not_an_mcp_server",
      "opens an event stream, in which no `endpoint` event says in time where to post",
    );
  const { place, isElsewhere } = endpointPlace(route, routes(), url, response, endpoint);
  if (isElsewhere)
    throw fail(
      "upstream_endpoint_elsewhere",
      `sends clients to ${place} by the \`endpoint\` event of its stream: that is another host than that of \`to\`, or what another route is for, and the gateway does not pass it on`,
    );
  const finding = `opens the stream of a legacy HTTP+SSE server, which has clients post to ${place}`;
  onStep({ ...step, ok: true, finding: finding + detourOf(response) });
  return { opened: true };
}

const initializeRequest = JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "initialize",
  params: {
    protocolVersion: "2025-06-18",
    capabilities: {},
    clientInfo: { name: "envoy-mcp-auth doctor", version: "1" },
  },
});
