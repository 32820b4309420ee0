import { spawnSync } from "node:child_process";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { findNodeAtLocation, getNodeValue, parseTree } from "jsonc-parser";
import { parse as parseYaml } from "yaml";

/** A request body with the headers that determine how it is read. */
export interface Sent {
  readonly method?: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}
/** How a reader understands a body: `[jsonrpc, id, method, tool, arguments]` of each message, as text. */
export type Reader = (sent: Sent) => string;

const unreadable = "unreadable";

function reader(read: (sent: Sent) => unknown): Reader {
  return (sent) => {
    try {
      const value = read(sent);
      return JSON.stringify(Array.isArray(value) ? value.map(summary) : [summary(value)]);
    } catch {
      return unreadable;
    }
  };
}

function summary(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const { jsonrpc, id, method, params } = value as Record<string, unknown>;
  const { name, arguments: given } = (params ?? {}) as Record<string, unknown>;
  return [jsonrpc, id, method, name, given];
}

const text = ({ body }: Sent) => body.toString("utf8");

/** Rebuilds every object of a parsed body; later keys win, as in the imitated decoders. */
function rekey(value: unknown, key: (name: string) => string): unknown {
  if (Array.isArray(value)) return value.map((member) => rekey(member, key));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [key(name), rekey(member, key)]));
}
function restring(value: unknown, change: (value: string) => string): unknown {
  return JSON.parse(JSON.stringify(value), (_, member: unknown) =>
    typeof member === "string" ? change(member) : member,
  );
}
const withKeys = (key: (name: string) => string) => reader((sent) => rekey(JSON.parse(text(sent)), key));
const withStrings = (change: (value: string) => string) =>
  reader((sent) => restring(JSON.parse(text(sent)), change));
/** Applies to the method only: a tool named `drop_table/` is another tool. */
const withMethod = (change: (value: string) => string) =>
  reader((sent) =>
    JSON.parse(text(sent), (key, value) =>
      key === "method" && typeof value === "string" ? change(value) : value,
    ),
  );
const decoding = (decode: (body: Buffer) => string) => reader(({ body }) => JSON.parse(decode(body)));
function only(test: (value: Record<string, unknown>) => boolean): Reader {
  return reader((sent) => {
    const value = JSON.parse(text(sent));
    if (!test(value)) throw new Error("rejected");
    return value;
  });
}
const depth = (value: unknown): number =>
  typeof value === "object" && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depth)) : 0;
const cutAtNul = (value: string) => value.split("\0", 1)[0] ?? "";

/** Parsers with different behavior: two real ones, and imitations of known server behavior. */
export const readers = {
  /** V8: strict, the last of two keys wins. */
  "JSON.parse": reader((sent) => JSON.parse(text(sent))),
  /** jsonc-parser: lenient, uses the first of two keys, ignores text after the value. */
  "first wins": reader((sent) => {
    const root = parseTree(text(sent), [], { allowTrailingComma: true });
    if (!root) throw new Error("nothing");
    if (root.type !== "object") return getNodeValue(root);
    const at = (...path: string[]) => {
      const node = findNodeAtLocation(root, path);
      return node && getNodeValue(node);
    };
    const params = { name: at("params", "name"), arguments: at("params", "arguments") };
    return { jsonrpc: at("jsonrpc"), id: at("id"), method: at("method"), params };
  }),
  /** The first of two keys inside a tool's arguments. */
  "first wins, inside": reader((sent) => {
    const root = parseTree(text(sent));
    const node = root && findNodeAtLocation(root, ["params", "arguments", "path"]);
    return node && getNodeValue(node);
  }),
  "last wins, inside": reader((sent) => JSON.parse(text(sent)).params.arguments.path),
  yaml: reader((sent) => parseYaml(text(sent), { uniqueKeys: false })),
  /** Go's encoding/json: keys in any letter case, with Unicode folding. */
  "any letter case": withKeys((name) => name.toUpperCase().toLowerCase()),
  "upper case": withKeys((name) => name.toUpperCase().toLowerCase().normalize("NFC")),
  "cut at NUL": withKeys(cutAtNul),
  "values cut at NUL": withStrings(cutAtNul),
  trimming: withKeys((name) => name.trim()),
  "values trimmed": withStrings((value) => value.trim()),
  "compatibility forms": withKeys((name) => name.normalize("NFKC")),
  /** Python's identifiers, and therefore every dispatch by getattr. */
  "values in compatibility forms": withStrings((value) => value.normalize("NFKC")),
  "invisible characters dropped": withKeys((name) => name.replace(/\p{Cf}/gu, "")),
  "values without invisible characters": withStrings((value) => value.replace(/\p{Cf}/gu, "")),
  "values in lower case": withStrings((value) => value.toLowerCase()),
  "method as path": withMethod((value) => value.split("/").filter(Boolean).join("/")),
  "method as dotted name": withMethod((value) => value.replaceAll(".", "/")),
  "members copied one by one": reader((sent) => copyMembers(JSON.parse(text(sent)))),
  "values coerced": reader((sent) => {
    const { params, ...message } = JSON.parse(text(sent));
    return { ...message, method: `${message.method}`, params: { ...params, name: `${params?.name}` } };
  }),
  "params by position": reader((sent) => {
    const message = JSON.parse(text(sent));
    return { ...message, params: { name: message.params[0] } };
  }),
  "strings as UTF-8": withStrings((value) => Buffer.from(value).toString()),
  "null id is no id": reader((sent) => ({ ...JSON.parse(text(sent)), id: "a notification" })),
  "ids as 32 bits": reader((sent) => {
    const message = JSON.parse(text(sent));
    return { ...message, id: Number(message.id) | 0 };
  }),
  "answers first": only((message) => !("result" in message)),
  "wants 2.0": only((message) => message.jsonrpc === "2.0"),
  "wants a message": only((message) => !Array.isArray(message) && typeof message === "object"),
  "wants few": only((message) => Array.isArray(message) && message.length <= 50),
  "wants it shallow": only((message) => depth(message) <= 64),
  "skips what it does not know": reader((sent) =>
    JSON.parse(text(sent)).filter((member: unknown) => typeof member === "object"),
  ),
  "flattens batches": reader((sent) => JSON.parse(text(sent)).flat()),
  "drops bad bytes": decoding((body) => body.toString().replaceAll("\uFFFD", "")),
  "takes overlong bytes": decoding((body) =>
    body
      .toString("latin1")
      .replace(/[\xc0\xc1]([\x80-\xbf])/g, (pair) =>
        String.fromCharCode(((pair.charCodeAt(0) & 1) << 6) | (pair.charCodeAt(1) & 0x3f)),
      ),
  ),
  /** Decoders that do not check whether the second byte continues the first. */
  "takes overlong bytes unchecked": decoding((body) =>
    body
      .toString("latin1")
      .replace(/[\xc0\xc1](.)/gs, (pair) =>
        String.fromCharCode(((pair.charCodeAt(0) & 1) << 6) | (pair.charCodeAt(1) & 0x3f)),
      ),
  ),
  /** Decoders of old double-byte character sets. */
  "swallows the next byte": decoding((body) =>
    body.toString("latin1").replace(/[\xc2-\xf4][^\x80-\xbf]/g, ""),
  ),
  "latin-1": decoding((body) => body.toString("latin1")),
  "UTF-7": decoding((body) =>
    body
      .toString("latin1")
      .replace(/\+([A-Za-z0-9+/]+)-/g, (_, coded: string) =>
        Buffer.from(coded, "base64").swap16().toString("utf16le"),
      ),
  ),
  "UTF-16": decoding((body) => body.toString("utf16le")),
  gunzip: decoding((body) => gunzipSync(body).toString()),
  brotli: decoding((body) => brotliDecompressSync(body).toString()),
  /** Reads the body by its Content-Type. */
  "JSON only": reader((sent) => {
    if (sent.headers["content-type"] !== "application/json") throw new Error("not JSON");
    return JSON.parse(text(sent));
  }),
  form: reader((sent) => {
    const fields = new URLSearchParams(text(sent));
    const params = { name: fields.get("name") };
    return { jsonrpc: fields.get("jsonrpc"), method: fields.get("method"), params };
  }),
  "line by line": reader((sent) =>
    text(sent)
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line)),
  ),
  "routes by header": reader(({ headers }) => ({
    method: headers["mcp-method"],
    params: { name: headers["mcp-name"] },
  })),
  "body by HTTP method": reader((sent) => {
    if (sent.method !== "POST") throw new Error("no body here");
    return JSON.parse(text(sent));
  }),
  "as long as it says": reader((sent) => {
    const length = Number(sent.headers["content-length"]);
    if (length > sent.body.length) throw new Error("waits for the rest");
    return JSON.parse(sent.body.subarray(0, length).toString());
  }),
} satisfies Record<string, Reader>;

function copyMembers(message: Record<string, unknown>): unknown {
  const copy: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(message)) {
    const isObject = typeof value === "object" && value !== null && name === "params";
    copy[name] = isObject ? copyMembers(value as Record<string, unknown>) : value;
  }
  return copy;
}

/** Python's json module on all bodies at once; its `loads` guesses UTF-16 and UTF-32 and takes NaN. */
export function readByPython(bodies: readonly Buffer[]): string[] {
  const program = `
import base64, json, sys
def summary(value):
    if not isinstance(value, dict): return value
    params = value.get("params") or {}
    named = isinstance(params, dict)
    of = params.get if named else lambda name: None
    return [value.get("jsonrpc"), value.get("id"), value.get("method"), of("name"), of("arguments")]
def reading(body):
    try:
        value = json.loads(base64.b64decode(body))
        value = [summary(v) for v in (value if isinstance(value, list) else [value])]
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except Exception:
        return "unreadable"
print(json.dumps([reading(body) for body in json.load(sys.stdin)]))`;
  const input = JSON.stringify(bodies.map((body) => body.toString("base64")));
  const { status, stdout, stderr } = spawnSync("python3", ["-c", program], { input, encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}
