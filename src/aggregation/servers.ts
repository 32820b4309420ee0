import {
  type Implementation,
  type JSONRPCRequest,
  Server,
  type ServerContext,
} from "@modelcontextprotocol/server";
import type { Route } from "../model/route.ts";
import { productVersion } from "../util/package.ts";
import { type JsonObject, noValidation } from "./json.ts";

/** Longest instructions of an aggregated route, characters. */
const maxInstructions = 16_384;

const version = productVersion();

/** What aggregated routes declare: what any member may have. Clients are told when lists change. */
export const capabilities = {
  tools: { listChanged: true },
  prompts: { listChanged: true },
  resources: { subscribe: true, listChanged: true },
  logging: {},
  completions: {},
};

/** The aggregated route, as clients see it. */
export function serverInfo(route: Route): Implementation {
  return { name: route.id, title: route.name, version };
}

export type AnswerRequest = (request: JSONRPCRequest, ctx: ServerContext) => Promise<JsonObject>;

/**
 * The SDK's server for one request of a client. All requests but those of the handshake go to `answer` as they were sent: the SDK's own
 * handlers would drop what its schemas do not know.
 */
export function serverFor(route: Route, instructions: string, answer: AnswerRequest): Server {
  const server = new Server(serverInfo(route), {
    capabilities,
    instructions,
    jsonSchemaValidator: noValidation,
  });
  server.removeRequestHandler("logging/setLevel");
  server.fallbackRequestHandler = async (request, ctx) => ({ ...(await answer(request, ctx)) });
  server.onerror = () => {};
  return server;
}

/** The members' instructions under their names. */
export function joinedInstructions(
  parts: readonly {
    readonly name: string;
    readonly prefix: string;
    readonly instructions: string | undefined;
  }[],
): string {
  const texts = parts.flatMap(({ name, prefix, instructions }) =>
    instructions ? [`# ${name} (names begin with "${prefix}")\n\n${instructions}`] : [],
  );
  return texts.join("\n\n").slice(0, maxInstructions);
}
