import type { Route } from "../config/route.ts";
import type { DiscoveryStep, UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import { adviceFor } from "./advice-for.ts";

const titles: Readonly<Record<DiscoveryStep["name"], string>> = {
  upstream: "Ask the server without a token",
  resource_metadata: "Protected-resource metadata",
  server_metadata: "Authorization server metadata",
  default_endpoints: "Default endpoints (2025-03-26)",
  capabilities: "What the authorization server can do",
  client: "Who we are there",
  result: "Result",
};

const unseen =
  "Whether it accepts the client of the routes file shows at the first call; nothing here can see it.\n";

/**
 * `doctor ROUTE` (F7.4): runs discovery against the route's upstream, prints each step with its URL, status and
 * finding as it happens, and ends with what the operator should do.
 *
 * @param deps.write takes the text, line ends included.
 * @returns whether people can use the route as it is.
 */
export async function doctor(
  route: Route,
  deps: {
    readonly discover: UpstreamOAuth["discover"];
    /** What an operator may have to register by hand. */
    readonly redirectUri: string;
    readonly write: (text: string) => void;
  },
): Promise<boolean> {
  const { write } = deps;
  write(`${route.name}\n  ${route.resource} -> ${route.upstream}\n`);
  if (route.mcp.kind === "client") {
    write("\nA client route: the application behind it needs no upstream token. Nothing to discover.\n");
    return true;
  }
  const { auth } = route.mcp;
  if (auth.type === "none" || auth.type === "api_key" || auth.type === "headers") {
    write(`\nupstream_auth is ${auth.type}: there is no authorization server to discover.\n`);
    return true;
  }
  const tokenUrl = "tokenUrl" in auth ? auth.tokenUrl : undefined;
  if (tokenUrl !== undefined) {
    write(`\nupstream_auth is ${auth.type}, with its token_url: nothing is discovered.\n`);
    write(`  token          ${tokenUrl}\n${unseen}`);
    return true;
  }
  if (auth.type === "oauth" && auth.endpoint) {
    write("\nupstream_oauth2.endpoint is given: nothing is discovered.\n");
    write(`  authorization  ${auth.endpoint.authUrl}\n  token          ${auth.endpoint.tokenUrl}\n`);
    const client = auth.clientId ?? "our client";
    write(`${client} must be registered there with this redirect URI; nothing here can see whether it is.\n`);
    write(`  redirect URI   ${deps.redirectUri}\n`);
    return true;
  }

  let last: string | undefined;
  let isGuess = false;
  const outcome = await deps.discover(route, (step) => {
    if (step.name === "result") return; // Said below, with what to do.
    if (step.name !== last) write(`\n${titles[step.name]}\n`);
    last = step.name;
    isGuess ||= step.name === "default_endpoints";
    write(lines(step));
  });
  if (outcome.ok && !outcome.needed) {
    write("\nThe server needs no authorization: people can use this route as it is.\n");
    return true;
  }
  if (outcome.ok && isGuess) {
    write(
      "\nNobody can tell whether people can connect: the server publishes no metadata, and its endpoints are a guess.\n" +
        `\nWhat to do\n${wrapped(adviceFor("discovery_failed", route))}`,
    );
    return false;
  }
  if (outcome.ok && auth.type !== "oauth") {
    write(`\nNobody has to connect: tokens are asked for at ${outcome.issuer ?? "the server"}.\n${unseen}`);
    return true;
  }
  if (outcome.ok) {
    const scopes = outcome.scopes.length > 0 ? `, scopes ${outcome.scopes.join(" ")}` : "";
    write(
      `\nPeople can connect: they will be sent to ${outcome.issuer ?? "the server"}${scopes}. Nothing to do.\n`,
    );
    return true;
  }
  write(
    `\nPeople cannot connect: ${outcome.message} (${outcome.code})\n\nWhat to do\n${wrapped(adviceFor(outcome.code, route))}`,
  );
  return false;
}

function lines(step: DiscoveryStep): string {
  const mark = step.ok ? "ok  " : "FAIL";
  if (step.url === undefined) return `  ${mark}  ${step.finding}\n`;
  // A step that went well without a status has asked nobody: its URL is something found.
  const status = step.status ?? (step.ok ? "" : "no answer");
  const place = `  ${mark}  ${step.url}  ${status}`.trimEnd();
  return `${place}\n        ${step.finding}\n`;
}

/** Lines of at most 100 characters, indented by two; words are never cut. */
function wrapped(text: string): string {
  const rows = [""];
  for (const word of text.split(" ")) {
    const row = rows[rows.length - 1] ?? "";
    if (row.length + word.length > 97 && row !== "") rows.push(word);
    else rows[rows.length - 1] = row === "" ? word : `${row} ${word}`;
  }
  return rows.map((row) => `  ${row}\n`).join("");
}
