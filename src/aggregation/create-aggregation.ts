import { randomUUID } from "node:crypto";
import { isLegacyRequest } from "@modelcontextprotocol/server";
import { membersOf } from "../config/aggregates.ts";
import { listedPath } from "../config/paths.ts";
import { aggregateOf, type Route } from "../model/route.ts";
import { mapAtOnce } from "../util/at-once.ts";
import { withDeadline } from "../util/deadline.ts";
import { admission } from "./admission.ts";
import type { Aggregation, AggregationDeps } from "./aggregation.ts";
import { accessTo } from "./consent.ts";
import { type Conversation, reread } from "./conversation.ts";
import { TooMany } from "./errors.ts";
import { Exchanges } from "./exchanges.ts";
import { jsonRpcError, sendResponse } from "./http.ts";
import { legacyClients } from "./legacy-clients.ts";
import { listReports, lists } from "./lists.ts";
import { memberCalls } from "./member-calls.ts";
import { instructionsOf } from "./member-clients.ts";
import { memberRequests } from "./member-requests.ts";
import { endSessions, memberSessions } from "./member-sessions.ts";
import { modernClients } from "./modern-clients.ts";
import { type Naming, namingsOf } from "./names.ts";
import { type NoticeDeps, notices } from "./notices.ts";
import { OpenCalls } from "./open-calls.ts";
import { OpenRequests } from "./open-requests.ts";
import { ParkedCalls } from "./parked-calls.ts";
import { replicaLink } from "./replica-link.ts";
import { membersAtOnce, requestHandler } from "./requests.ts";
import { type AnswerRequest, joinedInstructions } from "./servers.ts";
import type { SessionState } from "./session.ts";
import { sessionWide } from "./session-wide.ts";

/** How long `initialize` and `server/discover` wait for the instructions of members, ms. */
const instructionsMs = 3_000;

/** The MCP endpoints of aggregated routes: the server for clients, and the client of the members. */
export function createAggregation(deps: AggregationDeps): Aggregation {
  const { routes, logger } = deps;
  const replicaId = randomUUID();
  const exchanges = new Exchanges();
  const parked = new ParkedCalls(() => deps.metrics.limitsReached.inc({ limit: "aggregation_parked_calls" }));
  const memberUrl =
    deps.memberUrl ?? ((member: Route) => new URL(member.resource + (listedPath(member) ?? "")));
  const toMembers = { memberFetch: deps.memberFetch, memberUrl };
  const sessions = memberSessions({
    ...toMembers,
    onOpened: (...opened) => sessionWideState.onOpened(...opened),
  });
  const openCalls = new OpenCalls(deps);
  const calls = memberCalls({
    ...toMembers,
    sessions,
    open: openCalls,
    onOutcome: ({ member }, outcome) => deps.metrics.memberCalls.inc({ route: member.route.id, outcome }),
  });
  const client: NoticeDeps = {
    ...deps,
    ...toMembers,
    members: sessions,
    exchanges,
    replicaId,
    reread: (conversation) => reread(deps, conversation),
    answer: (conversation) => answer(conversation),
  };
  const clientNotices = notices(client);
  const sessionWideState = sessionWide({
    ...deps,
    ...toMembers,
    calls,
    streams: clientNotices.streams,
    onChanged: (conversation) => link.sessionChanged(conversation),
  });
  const link = replicaLink({
    ...deps,
    replicaId,
    exchanges,
    parked,
    awaitConsent: sessionWideState.awaitConsent,
    refreshStreams: (session) => clientNotices.streams.refresh(session),
  });
  const consent = {
    ...deps,
    onLink: (conversation: Conversation, { member }: Naming) => link.linkMade(conversation, member.route.id),
  };
  const handle = requestHandler({
    ...consent,
    lists: lists({
      calls,
      sessions,
      onLeftOut: () => deps.metrics.limitsReached.inc({ limit: "aggregated_list_bytes" }),
    }),
    requests: memberRequests({
      ...consent,
      calls,
      sessions,
      parked,
      replica: link,
      onConnected: sessionWideState.onConnected,
    }),
    sessionWide: sessionWideState,
    onList(conversation, naming, list) {
      sessionWideState.onList(conversation, naming, list);
      reportList(conversation, naming, list);
    },
  });
  const reportList = listReports(deps);
  const answer =
    (conversation: Conversation): AnswerRequest =>
    (request, ctx) =>
      handle(conversation, request, ctx);

  async function instructions(conversation: Conversation): Promise<string> {
    const { usable } = await accessTo(deps, conversation);
    const until = Date.now() + instructionsMs;
    const parts = await mapAtOnce(
      usable,
      membersAtOnce,
      async (naming) => {
        const { prefix, route } = naming.member;
        const opened = sessions.of(conversation, naming).then(instructionsOf, () => undefined);
        const text = await withDeadline(opened, Math.max(1, until - Date.now()), () => undefined);
        return { name: route.name, prefix, instructions: text };
      },
      () => Date.now() >= until,
    );
    return joinedInstructions(parts);
  }

  const admitted = admission(deps);
  const newSessions = {
    sessions: deps.sessions,
    beforeSession: admitted.beforeSession,
    onDropped(conversation: Conversation, dropped: readonly SessionState[]) {
      for (const { members } of dropped) void endSessions(toMembers, conversation, members);
    },
  };

  const legacy = legacyClients({
    ...newSessions,
    exchanges,
    replicaId,
    answer,
    instructions,
    onOther: (conversation, message) => link.route(conversation, message, sessionWideState),
    openGet: clientNotices.openGet,
    onEnd: sessionWideState.onEnd,
  });
  const modern = modernClients({
    ...newSessions,
    answer,
    instructions,
    openListen: clientNotices.openListen,
    limitUnsent: clientNotices.limitUnsent,
  });

  const open = new OpenRequests(
    deps,
    (concerns) => {
      void openCalls.endSome(concerns);
      void clientNotices.streams.refreshSome(concerns);
    },
    (grantId) => parked.cancelGrant(grantId),
  );

  const following = [
    deps.onRoutesChanged(() => void openCalls.endSome(() => true)),
    deps.notifications.subscribe((change) => {
      if (change.table === "aggregate_session") void clientNotices.streams.refresh(change.name);
    }),
  ];

  return {
    async middleware(ctx, next) {
      const { host = "" } = ctx.req.headers;
      const route = routes().find(host, ctx.path);
      if (route === undefined || aggregateOf(route) === undefined || routes().isOwnPath(host, ctx.path))
        return next();
      const call = await deps.callOf(ctx);
      // Without the header that the check signs, nothing says whose request it is.
      if (call === undefined || call.route.id !== route.id)
        return sendResponse(ctx, jsonRpcError(403, -32_000, "Forbidden: this request has not been checked"));
      const received = await admitted.read(ctx, call);
      if (received instanceof Response) return sendResponse(ctx, received);
      const { request, body } = received;
      open.add(call, received);
      const namings = namingsOf(membersOf(routes().config, route));
      const serve = (await isLegacyRequest(request, body)) ? legacy : modern;
      try {
        await sendResponse(ctx, await serve(call, namings, received));
      } catch (error) {
        if (ctx.headerSent) return ctx.res.destroy();
        if (error instanceof TooMany) return sendResponse(ctx, admitted.tooMany(error, body));
        logger.error(
          { err: error, requestId: call.requestId, route: route.id },
          "an aggregated request failed",
        );
        await sendResponse(ctx, jsonRpcError(500, -32_603, "Internal error", body));
      }
    },
    drain: () => clientNotices.streams.end(),
    async close() {
      link.close();
      for (const stop of following) stop();
      open.close();
      sessionWideState.close();
      clientNotices.streams.close();
      parked.close();
      await exchanges.close();
    },
  };
}
