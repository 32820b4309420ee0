import type { PolicyInput } from "../../src/model/subject.ts";
import { people } from "./people.ts";

/**
 * A request from a table row: `call TOOL`, `batch call A, ping`, `list`, `notify METHOD`, any other JSON-RPC
 * method, or `GET`, `DELETE`, `PUT`; then facts such as `ip=10.0.0.1`, `path=/x`, `at=2026-01-05T12:00:00Z`.
 */
export function requestFrom(who: string, written: string): PolicyInput {
  const caller = people[who];
  if (!caller) throw new Error(`unknown caller ${who}`);
  const facts: Record<string, string> = {};
  const what = written
    .replace(/\b(ip|path|at)=(\S+)/g, (_, name: string, value: string) => {
      facts[name] = value;
      return "";
    })
    .trim();
  const rest = {
    caller,
    path: facts.path ?? "/mcp",
    sourceIp: facts.ip === "none" ? undefined : (facts.ip ?? "192.0.2.7"),
    now: Date.parse(facts.at ?? "2026-06-01T12:00:00Z"),
  };
  if (/^[A-Z]+$/.test(what)) return { ...rest, method: what, headers: {} };
  const batch = what.startsWith("batch ");
  const messages = what
    .replace(/^batch /, "")
    .split(", ")
    .map((message, index) => messageFrom(message, index + 1));
  const body = Buffer.from(JSON.stringify(batch ? messages : messages[0]));
  return { ...rest, method: "POST", headers: { "content-type": "application/json" }, body };
}

function messageFrom(written: string, id: number): object {
  const [word = "", name] = written.split(" ");
  switch (word) {
    case "call":
      return { jsonrpc: "2.0", id, method: "tools/call", params: { name, arguments: {} } };
    case "call-silently":
      return { jsonrpc: "2.0", method: "tools/call", params: { name } };
    case "list":
      return { jsonrpc: "2.0", id, method: "tools/list" };
    case "notify":
      return { jsonrpc: "2.0", method: name };
    case "answer":
      return { jsonrpc: "2.0", id, result: {} };
    default:
      return { jsonrpc: "2.0", id, method: word };
  }
}
