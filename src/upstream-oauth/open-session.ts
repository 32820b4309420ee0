import { endpointUrl, possibleEndpoints } from "../config/endpoint.ts";
import type { Route } from "../config/route.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { FailureCode } from "./failure.ts";
import { detourOf, type ProbeResponse } from "./follow-own-redirects.ts";
import { endpointPlace, eventsOf, isEventStream, streamHeaders, takesNoPost } from "./legacy-stream.ts";
import type { Outward } from "./outward.ts";
import { parseChallenge } from "./parse-challenge.ts";
import { codeOfUnknown, readProbeAnswer } from "./probe-answer.ts";
import { readJsonObject } from "./read-json-object.ts";
import { objectOf } from "./read-members.ts";
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
 * Opens a session as a client would, and ends it. Only status and headers of the answer are read; of a legacy server's stream its events up
 * to the answer.
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
  const refuse = (status: number, url = step.url) => {
    const which =
      refused === "credential_refused" ? "the credential of the routes file" : "a call without one";
    const words = `refuses ${which} (${status})`;
    onStep({ ...step, url, status, ok: false, finding: words });
    const asks = `the upstream asks for a credential (${status}), and the route sends none`;
    const refuses = `the upstream refuses the credential of the routes file (${status})`;
    return new UpstreamOAuthError(refused, refused === "credential_refused" ? refuses : asks);
  };
  if (meaning === "token_wanted" || status === 403) throw refuse(status);
  if (takesNoPost(status)) {
    const stream = await openStream(deps, route, onStep, own);
    if ("opened" in stream) return;
    if (stream.refused !== undefined) throw refuse(stream.refused, stream.at);
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

/** What came of a GET for the stream of a legacy server. */
type Stream =
  | { readonly opened: true }
  | {
      /** Status by which the caller is refused, and the URL that refuses them where that is not the stream's. */
      readonly refused?: number;
      readonly at?: string;
      /** Why there was no answer. */
      readonly failure?: string;
    };

/**
 * Opens a session with a legacy HTTP+SSE server, if it is one: its stream, whose `endpoint` event must lead to a place that the gateway
 * passes on, and there `initialize`, which must be answered over the stream. Then the stream is ended, and the session with it.
 *
 * @param how.tokenWanted no token is sent where one is wanted: an answer to the message is not waited for in vain
 * @throws UpstreamOAuthError `upstream_endpoint_elsewhere`; `not_an_mcp_server` where no such event, or no answer, comes in time, or nothing
 * takes messages there; others as the place answers
 */
export async function openStream(
  deps: SessionDeps,
  route: Route,
  onStep: OnStep,
  headers: Readonly<Record<string, string>>,
  how: { readonly tokenWanted?: true } = {},
): Promise<Stream> {
  const { outward, routes } = deps;
  const url = endpointUrl(route);
  let response: ProbeResponse;
  try {
    response = await outward.probeStream(route, { headers: { ...streamHeaders, ...headers } });
  } catch (error) {
    return { failure: UpstreamOAuthError.from(error, "a GET for an event stream").message };
  }
  const { status } = response;
  if (!isEventStream(response) || response.body === null) {
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
  const events = eventsOf(response.body, routes().config.upstreamOAuth);
  try {
    const first = await next(events, ({ type, data }) =>
      type === "endpoint" && data !== "" ? data : undefined,
    );
    if (first === undefined)
      throw fail(
        "not_an_mcp_server",
        "opens an event stream, in which no `endpoint` event says in time where to post",
      );
    const { place, postTo } = endpointPlace(route, routes(), url, response, first);
    if (postTo === undefined)
      throw fail(
        "upstream_endpoint_elsewhere",
        `sends clients to ${place} by the \`endpoint\` event of its stream: that is another host than that of \`to\`, or what another route is for, and the gateway does not pass it on`,
      );
    const finding = `opens the stream of a legacy HTTP+SSE server, which has clients post to ${place}`;
    onStep({ ...step, ok: true, finding: finding + detourOf(response) });
    return await postInitialize(deps, route, onStep, { place, postTo, events, headers, ...how });
  } finally {
    await events.return(undefined);
  }
}

type Events = ReturnType<typeof eventsOf>;

/** What `read` makes of the first event that it makes something of; undefined: none came. */
async function next<T>(
  events: Events,
  read: (event: { readonly type: string; readonly data: string }) => T | undefined,
): Promise<T | undefined> {
  for (;;) {
    const { value } = await events.next();
    if (value === undefined) return undefined;
    const made = read(value);
    if (made !== undefined) return made;
  }
}

/** Posts `initialize` where the stream says, and waits for its answer there. */
async function postInitialize(
  { outward }: SessionDeps,
  route: Route,
  onStep: OnStep,
  session: {
    /** Of `postTo`, without what is secret. */
    readonly place: string;
    readonly postTo: string;
    readonly events: Events;
    readonly headers: Readonly<Record<string, string>>;
    readonly tokenWanted?: true;
  },
): Promise<Stream> {
  const { place, postTo, events, tokenWanted } = session;
  const step = { name: "initialize", url: place } as const;
  const fail = (code: FailureCode, finding: string, status?: number) => {
    onStep({ ...step, status, ok: false, finding });
    return new UpstreamOAuthError(code, `${place}, which the \`endpoint\` event names, ${finding}`);
  };
  let response: ProbeResponse;
  try {
    const headers = { "content-type": "application/json", ...session.headers };
    response = await outward.probe(route, { method: "POST", headers, body: initializeRequest }, postTo);
  } catch (error) {
    const { code, message, status } = UpstreamOAuthError.from(error, "it");
    throw fail(code, `takes no messages: ${message.replace(/^it: /, "")}`, status);
  }
  const { status } = response;
  const challenge =
    status >= 400 ? parseChallenge(response.headers.get("www-authenticate"), postTo) : undefined;
  const contentType = response.headers.get("content-type");
  const { meaning, finding } = readProbeAnswer({ status, contentType, challenge });
  if (meaning === "token_wanted" || status === 403) return { refused: status, at: place };
  if (takesNoPost(status)) throw fail("not_an_mcp_server", `takes no messages (${status})`, status);
  if (meaning === "unknown") throw fail(codeOfUnknown(status), finding, status);
  const isTaken = status < 300;
  const answer = isTaken ? await next(events, readAnswer) : undefined;
  if (isTaken && answer === undefined && tokenWanted) {
    onStep({
      ...step,
      status,
      ok: true,
      finding: "takes `initialize`, and does not answer it without a token",
    });
    return { opened: true };
  }
  if (isTaken && answer === undefined)
    throw fail(
      "not_an_mcp_server",
      "takes `initialize`, and no answer to it comes over the stream in time",
      status,
    );
  const refusal = isTaken ? answer?.error : String(status);
  onStep({
    ...step,
    status,
    ok: refusal === undefined,
    finding:
      refusal === undefined
        ? "opens a session: the answer to `initialize` comes over the stream"
        : "does not accept initialize",
    note: refusal && `the server does not accept initialize (${refusal}): its owner knows why`,
  });
  return { opened: true };
}

/** The answer to `initializeRequest`; `error`: its JSON-RPC error, if it is one. */
function readAnswer({
  type,
  data,
}: {
  readonly type: string;
  readonly data: string;
}): { error?: string } | undefined {
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
