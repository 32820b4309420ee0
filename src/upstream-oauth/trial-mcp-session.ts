import { endpointUrl, possibleEndpoints } from "../config/paths.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { SafeFetchError } from "../egress/errors.ts";
import type { Route } from "../model/route.ts";
import { UpstreamOAuthError } from "./errors.ts";
import type { FailureCode } from "./failures.ts";
import { objectOf, readJsonObject } from "./json.ts";
import {
  type EventReader,
  endpointLocation,
  isEventStream,
  readEvents,
  type StreamEvent,
  streamHeaders,
  takesNoPost,
} from "./legacy-stream.ts";
import { codeOfUnknown, detourOf, type ProbeAnswer, type ProbeResponse, readProbeAnswer } from "./probe.ts";
import type { RouteFetch } from "./route-fetch.ts";
import type { DiscoveryStep } from "./upstream-oauth.ts";
import { parseChallenge } from "./www-authenticate.ts";

interface SessionDeps {
  readonly routes: CurrentRoutes;
  readonly routeFetch: RouteFetch;
}
type OnStep = (step: DiscoveryStep) => void;

/** Opens a session and ends it, at the default path if the first URL is not an MCP endpoint. @throws UpstreamOAuthError */
export async function openSession(...[deps, route, ...how]: Parameters<typeof initialize>): Promise<void> {
  const [first, second] = possibleEndpoints(route);
  const isOf = (error: unknown, ...codes: FailureCode[]) =>
    error instanceof UpstreamOAuthError && codes.includes(error.code);
  await initialize(deps, first, ...how).catch(async (error: unknown) => {
    if (!second || !isOf(error, "not_an_mcp_server")) throw error;
    await initialize(deps, second, ...how).catch((other: unknown) => {
      const isThere = isOf(other, "credential_missing", "credential_rejected", "upstream_endpoint_elsewhere");
      throw isThere ? other : error;
    });
  });
}

/** `request_headers.set`. */
export function setHeaders({ mcp }: Route): Record<string, string> {
  return mcp.kind === "server" ? Object.fromEntries(mcp.requestHeaders.set) : {};
}

/**
 * Opens a session as a client would, and ends it. Reads only status and headers of the response; from a legacy server's stream, the events
 * up to the response.
 *
 * @param credential headers of the routes file, sent only to the route's own upstream, as in every call
 * @param failureCode for a request that the upstream rejects
 * @throws UpstreamOAuthError
 */
async function initialize(
  deps: SessionDeps,
  route: Route,
  onStep: OnStep,
  credential: Readonly<Record<string, string>>,
  failureCode: FailureCode = "credential_missing",
): Promise<void> {
  const { routeFetch } = deps;
  const own = { ...setHeaders(route), ...credential };
  const headers = {
    accept: "application/json, text/event-stream",
    "content-type": "application/json",
    ...own,
  };
  const step = { name: "initialize", url: endpointUrl(route) } as const;
  let response: ProbeResponse;
  try {
    response = await routeFetch.probe(route, { method: "POST", headers, body: initializeRequest });
  } catch (error) {
    const failure = UpstreamOAuthError.from(error, "the upstream cannot be probed");
    const status = error instanceof SafeFetchError ? error.status : undefined;
    onStep({ ...step, status, ok: false, finding: failure.message });
    throw failure;
  }
  const { status } = response;
  const session = response.headers.get("mcp-session-id");
  if (session !== null) {
    const end = { method: "DELETE", headers: { ...headers, "mcp-session-id": session } };
    await routeFetch.probe(route, end).catch(() => undefined);
  }
  const answer = readProbeAnswer({ status, contentType: response.headers.get("content-type") });
  const { meaning } = answer;
  let { finding } = answer;
  const rejectionOf = (status: number, url = step.url) => {
    const which =
      failureCode === "credential_rejected" ? "the credential of the routes file" : "a call without one";
    const words = `rejects ${which} (${status})`;
    onStep({ ...step, url, status, ok: false, finding: words });
    const credentialMissing = `the upstream asks for a credential (${status}), and the route sends none`;
    const credentialRejected = `the upstream rejects the credential of the routes file (${status})`;
    return new UpstreamOAuthError(
      failureCode,
      failureCode === "credential_rejected" ? credentialRejected : credentialMissing,
    );
  };
  if (meaning === "token_wanted" || status === 403) throw rejectionOf(status);
  if (takesNoPost(status)) {
    const stream = await openStream(deps, route, onStep, own);
    if ("opened" in stream) return;
    if (stream.rejectedStatus !== undefined) throw rejectionOf(stream.rejectedStatus, stream.at);
    if (stream.failure !== undefined) finding += `; ${stream.failure}`;
  }
  if (meaning === "unknown") {
    onStep({ ...step, status, ok: false, finding });
    throw new UpstreamOAuthError(codeOfUnknown(status), `${endpointUrl(route)} ${finding}`);
  }
  const isAccepted = status < 300;
  const note = isAccepted ? undefined : notAccepted(status);
  const detour = detourOf(response);
  onStep({
    ...step,
    status,
    ok: isAccepted,
    finding: (isAccepted ? "opens a session" : "does not accept initialize") + detour,
    note,
  });
}

/** The result of a GET for the stream of a legacy server. */
type Stream =
  | { readonly opened: true }
  | {
      /** Status of the rejection, and the URL that rejected the request if it is not the stream's. */
      readonly rejectedStatus?: number;
      readonly at?: string;
      /** Why there was no response. */
      readonly failure?: string;
    };

/**
 * Opens a session with a legacy HTTP+SSE server, if it is one: opens its stream, whose `endpoint` event must name a URL that the gateway
 * passes on, and posts `initialize` there, which must be answered over the stream. Then closes the stream, which ends the session. Each
 * request, the event and the response have their own `upstream_oauth.timeout`.
 *
 * @param how.tokenWanted the server requires a token, and none is sent: only `upstream_endpoint_elsewhere` is a failure, and the response
 * to `initialize` is not awaited
 * @throws UpstreamOAuthError `upstream_endpoint_elsewhere`; `unreachable` if the event or the response takes too long; `not_an_mcp_server`
 * if the stream ends without it, or the URL does not accept messages; others depending on the response
 */
export async function openStream(
  deps: SessionDeps,
  route: Route,
  onStep: OnStep,
  headers: Readonly<Record<string, string>>,
  how: { readonly tokenWanted?: true } = {},
): Promise<Stream> {
  const { routeFetch, routes } = deps;
  const url = endpointUrl(route);
  const limits = routes().config.upstreamOAuth;
  const send = routeFetch.legacySession(route);
  let response: ProbeResponse;
  try {
    response = await send({ headers: { ...streamHeaders, ...headers } });
  } catch (error) {
    return { failure: UpstreamOAuthError.from(error, "a GET for an event stream").message };
  }
  const { status } = response;
  if (!isEventStream(response) || response.body === null) {
    const challenge =
      status >= 400 ? parseChallenge(response.headers.get("www-authenticate"), url) : undefined;
    const isRejection = status === 403 || readProbeAnswer({ status, challenge }).meaning === "token_wanted";
    return isRejection ? { rejectedStatus: status } : {};
  }
  const step = { name: "initialize", url, status } as const;
  const fail = (code: FailureCode, finding: string) => {
    onStep({ ...step, ok: false, finding });
    return new UpstreamOAuthError(code, `${url} ${finding}`);
  };
  const events = readEvents(response.body, limits);
  try {
    let hasOthers = false;
    const first = await events.next(({ type, data }) => {
      if (type === "endpoint" && data !== "") return data;
      hasOthers = true;
      return undefined;
    });
    if (first.made === undefined) {
      const isSlow = first.isLate && !hasOthers;
      const finding = isSlow
        ? `opens an event stream, but sends no \`endpoint\` event within ${limits.timeoutMs / 1000} s`
        : "opens an event stream, but no `endpoint` event says in time where to post";
      if (!how.tokenWanted) throw fail(isSlow ? "unreachable" : "not_an_mcp_server", finding);
      onStep({ ...step, ok: true, finding: `${finding}; ${noToken}`, note: shownByFirstCall });
      return { opened: true };
    }
    const { shownUrl, postTo } = endpointLocation(route, routes(), url, response, first.made);
    if (postTo === undefined)
      throw fail(
        "upstream_endpoint_elsewhere",
        `sends clients to ${shownUrl} in the \`endpoint\` event of its stream: that is not the host of \`to\`, or it is a path of another route, and the gateway does not pass it on`,
      );
    const finding = `opens the stream of a legacy HTTP+SSE server, which has clients post to ${shownUrl}`;
    onStep({ ...step, ok: true, finding: finding + detourOf(response) });
    const post = async () => {
      const init = { "content-type": "application/json", ...headers };
      const posted = await send({ method: "POST", headers: init, body: initializeRequest }, postTo);
      await posted.body?.cancel();
      const { status } = posted;
      const challenge =
        status >= 400 ? parseChallenge(posted.headers.get("www-authenticate"), postTo) : undefined;
      const contentType = posted.headers.get("content-type");
      return { status, ...readProbeAnswer({ status, contentType, challenge }) };
    };
    if (!how.tokenWanted) return await postInitialize(onStep, { shownUrl, post, events, ...limits });
    await postWithoutToken(onStep, { shownUrl, post });
    return { opened: true };
  } finally {
    await events.end();
  }
}

const noToken = "doctor has no token, so no session was opened";
const shownByFirstCall = "the first call shows whether the server accepts messages with a token";

interface Posting {
  /** The URL to post to, without secrets. */
  readonly shownUrl: string;
  /** Posts `initialize` there. */
  readonly post: () => Promise<ProbeAnswer & { readonly status: number }>;
}

/** Posts `initialize`, and waits for the response over the stream. @param session.timeoutMs timeout of that, ms */
async function postInitialize(
  onStep: OnStep,
  session: Posting & { readonly events: EventReader; readonly timeoutMs: number },
): Promise<Stream> {
  const { shownUrl, events, timeoutMs } = session;
  const step = { name: "initialize", url: shownUrl } as const;
  const fail = (code: FailureCode, finding: string, status?: number) => {
    onStep({ ...step, status, ok: false, finding });
    return new UpstreamOAuthError(code, `${shownUrl}, which the \`endpoint\` event names, ${finding}`);
  };
  const { status, meaning, finding } = await session.post().catch((error: unknown) => {
    const { code, message, status } = UpstreamOAuthError.from(error, "it");
    throw fail(code, `does not accept messages: ${message.replace(/^it: /, "")}`, status);
  });
  if (meaning === "token_wanted" || status === 403) return { rejectedStatus: status, at: shownUrl };
  if (takesNoPost(status)) throw fail("not_an_mcp_server", `does not accept messages (${status})`, status);
  if (meaning === "unknown") throw fail(codeOfUnknown(status), finding, status);
  let rejectedWith: string | undefined = String(status);
  if (status < 300) {
    const answer = await events.next(readAnswer);
    if (answer.made === undefined && answer.isLate)
      throw fail("unreachable", `did not answer \`initialize\` within ${timeoutMs / 1000} s`, status);
    if (answer.made === undefined)
      throw fail(
        "not_an_mcp_server",
        "accepts `initialize`, but sends no response over the stream before it ends",
        status,
      );
    rejectedWith = answer.made.error;
  }
  onStep({
    ...step,
    status,
    ok: rejectedWith === undefined,
    finding:
      rejectedWith === undefined
        ? "opens a session: the answer to `initialize` comes over the stream"
        : "does not accept initialize",
    note: rejectedWith && notAccepted(rejectedWith),
  });
  return { opened: true };
}

function notAccepted(rejectedWith: string | number): string {
  return `the server does not accept initialize (${rejectedWith}): ask the server's owner why`;
}

/** Posts `initialize` to a server that requires a token: the response may be different with one. */
async function postWithoutToken(onStep: OnStep, { shownUrl, post }: Posting): Promise<void> {
  const say = (finding: string, more: { readonly status?: number; readonly note?: string }) =>
    onStep({ name: "initialize", url: shownUrl, ok: true, finding, ...more });
  const answer = await post().catch((error: unknown) => UpstreamOAuthError.from(error, "it"));
  if (answer instanceof UpstreamOAuthError) {
    const { message, status } = answer;
    const finding = `does not accept messages without a token: ${message.replace(/^it: /, "")}; ${noToken}`;
    say(finding, { status, note: shownByFirstCall });
    return;
  }
  const { status, meaning } = answer;
  if (meaning === "token_wanted")
    say("asks for a token; doctor has none, so no session was opened", { status });
  else if (meaning === "open" && status < 300)
    say("accepts `initialize`; doctor has no token, so the response was not waited for", { status });
  else {
    const note = status >= 500 ? shownByFirstCall : undefined;
    say(`does not accept messages without a token (${status}); ${noToken}`, { status, note });
  }
}

/** The response to `initializeRequest`; `error`: its JSON-RPC error, if any. */
function readAnswer({ type, data }: StreamEvent): { error?: string } | undefined {
  if (type !== "message") return undefined;
  const message = readJsonObject(data);
  if (message?.id !== initializeId || !("result" in message || "error" in message)) return undefined;
  if (!("error" in message)) return {};
  const code = objectOf(message.error)?.code;
  return { error: typeof code === "number" ? `JSON-RPC error ${code}` : "a JSON-RPC error" };
}

const initializeId = 1;
const initializeRequest = JSON.stringify({
  jsonrpc: "2.0",
  id: initializeId,
  method: "initialize",
  params: {
    protocolVersion: "2025-06-18",
    capabilities: {},
    clientInfo: { name: "envoy-mcp-auth doctor", version: "1" },
  },
});
