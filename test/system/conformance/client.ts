import { loopbackFetch } from "../../../dev/demo/loopback-fetch.ts";
import type { Served } from "./gateway.ts";
import { person } from "./person.ts";
import type { ScenarioServer } from "./route-for.ts";
import { session2025 } from "./session-2025.ts";
import { session2026 } from "./session-2026.ts";

/*
 * The client command for the suite: `client.ts SERVER_URL`, with the scenario in the environment. It requests a route to the
 * scenario's server from the gateway, and calls that route like any MCP client.
 */
const redirectUri = "http://127.0.0.1:33418/callback";
const {
  CONFORMANCE_GATEWAY,
  MCP_CONFORMANCE_SCENARIO,
  MCP_CONFORMANCE_CONTEXT,
  MCP_CONFORMANCE_PROTOCOL_VERSION,
} = process.env;
const serverUrl = process.argv[2];
if (!CONFORMANCE_GATEWAY || !MCP_CONFORMANCE_SCENARIO || !serverUrl) {
  throw new Error("run by test/system/conformance/conformance.ts, through the suite");
}
const server: ScenarioServer = {
  scenario: MCP_CONFORMANCE_SCENARIO,
  revision: MCP_CONFORMANCE_PROTOCOL_VERSION ?? "2025-11-25",
  serverUrl,
  context: JSON.parse(MCP_CONFORMANCE_CONTEXT ?? "{}"),
};
const answer = await fetch(CONFORMANCE_GATEWAY, { method: "POST", body: JSON.stringify(server) });
if (!answer.ok) throw new Error(await answer.text());
const served: Served = await answer.json();

const { fetch: reach, close } = loopbackFetch(served.ca, served.port);
const human = person(reach, redirectUri, served.openidProvider);
const options = {
  url: served.url,
  redirectUri,
  fetch: reach,
  authorize: (location: URL) => {
    console.log(`a person is needed: ${location.origin}${location.pathname}`);
    return human.authorize(location);
  },
};
const session = server.revision >= "2026-07-28" ? session2026(options) : session2025(options);
try {
  await session.connect();
  console.log("connected");
  console.log("tools:", (await session.listTools()).map((tool) => tool.name).join(", "));
  console.log("called:", JSON.stringify(await session.callTool("test-tool")));
  await session.close();
} catch (error) {
  console.log(String(error));
  process.exitCode = 1;
}
await close();
