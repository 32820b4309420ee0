import { brotliCompressSync, gzipSync } from "node:zlib";
import type { UnreadableReason } from "../../src/policy/policy.ts";
import type { readers } from "./readers.ts";

/** A request that two readers read differently. `python`: Python's json module. */
export interface Lookalike {
  readonly title: string;
  readonly body: string | Buffer;
  readonly reason: UnreadableReason;
  /** Two readers that differ on it. */
  readonly readers: readonly [keyof typeof readers | "python", keyof typeof readers | "python"];
  readonly headers?: Readonly<Record<string, string | undefined>>;
  readonly method?: string;
}

const call = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"drop_table"}}';
const ping = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
const nested = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
/** A message with these members in addition to version and id. */
const message = (members: string) => `{"jsonrpc":"2.0","id":1,${members}}`;
/** A tool call with these params. */
const params = (members: string) => message(`"method":"tools/call","params":{${members}}`);
const bytes = (...parts: (string | readonly number[])[]) =>
  Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : Buffer.from(part))));
const utf32 = (text: string) =>
  Buffer.concat([...text].map((character) => Buffer.from([character.charCodeAt(0), 0, 0, 0])));

/** Calls that must never bypass a rule on tools. `drop_table` is the forbidden tool. */
export const lookalikes: readonly Lookalike[] = [
  // The same key twice.
  {
    title: "method twice, the harmless one last",
    body: message('"method":"tools/call","method":"ping","params":{"name":"drop_table"}'),
    reason: "duplicate_key",
    readers: ["JSON.parse", "first wins"],
  },
  {
    title: "method twice, the harmless one first",
    body: message('"method":"ping","method":"tools/call","params":{"name":"drop_table"}'),
    reason: "duplicate_key",
    readers: ["python", "first wins"],
  },
  {
    title: "method twice, once with an escape",
    body: message('"method":"tools/call","m\\u0065thod":"ping","params":{"name":"drop_table"}'),
    reason: "duplicate_key",
    readers: ["JSON.parse", "first wins"],
  },
  {
    title: "params twice",
    body: message('"method":"tools/call","params":{"name":"drop_table"},"params":{"name":"query"}'),
    reason: "duplicate_key",
    readers: ["JSON.parse", "first wins"],
  },
  {
    title: "params twice, the second null",
    body: message('"method":"tools/call","params":{"name":"drop_table"},"params":null'),
    reason: "duplicate_key",
    readers: ["JSON.parse", "first wins"],
  },
  {
    title: "name twice",
    body: params('"name":"drop_table","name":"query"'),
    reason: "duplicate_key",
    readers: ["JSON.parse", "first wins"],
  },
  {
    title: "name twice, with arguments between and an escape",
    body: params('"name":"query","arguments":{},"n\\u0061me":"drop_table"'),
    reason: "duplicate_key",
    readers: ["JSON.parse", "first wins"],
  },
  {
    title: "id twice",
    body: '{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
    reason: "duplicate_key",
    readers: ["JSON.parse", "first wins"],
  },
  {
    title: "jsonrpc twice",
    body: '{"jsonrpc":"1.0","jsonrpc":"2.0","id":1,"method":"ping"}',
    reason: "duplicate_key",
    readers: ["JSON.parse", "first wins"],
  },
  {
    title: "an argument twice",
    body: params('"name":"query","arguments":{"path":"/safe","path":"/etc"}'),
    reason: "duplicate_key",
    readers: ["last wins, inside", "first wins, inside"],
  },
  // Another spelling of a key.
  {
    title: "Method beside method",
    body: message('"method":"ping","Method":"tools/call","params":{"name":"drop_table"}'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "any letter case"],
  },
  {
    title: "METHOD alone",
    body: message('"METHOD":"tools/call","params":{"name":"drop_table"},"result":{}'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "any letter case"],
  },
  {
    title: "Params beside params",
    body: message('"method":"tools/call","params":{"name":"query"},"Params":{"name":"drop_table"}'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "any letter case"],
  },
  {
    title: "paramſ, which Go takes for params",
    body: message('"method":"tools/call","params":{"name":"query"},"paramſ":{"name":"drop_table"}'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "any letter case"],
  },
  {
    title: "Name beside name",
    body: params('"name":"query","Name":"drop_table"'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "any letter case"],
  },
  {
    title: "NAME with an escape",
    body: params('"name":"query","\\u004eAME":"drop_table"'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "any letter case"],
  },
  {
    title: "Id beside id",
    body: '{"jsonrpc":"2.0","id":1,"Id":2,"method":"ping"}',
    reason: "lookalike_key",
    readers: ["JSON.parse", "any letter case"],
  },
  {
    title: "ıd without a dot",
    body: '{"jsonrpc":"2.0","id":1,"ıd":2,"method":"ping"}',
    reason: "lookalike_key",
    readers: ["JSON.parse", "upper case"],
  },
  {
    title: "JSONRPC beside jsonrpc",
    body: '{"jsonrpc":"2.0","JSONRPC":"1.0","id":1,"method":"ping"}',
    reason: "lookalike_key",
    readers: ["JSON.parse", "any letter case"],
  },
  {
    title: "a key that some readers cut at a NUL",
    body: params('"name":"query","name\\u0000":"drop_table"'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "cut at NUL"],
  },
  {
    title: "a key with a blank",
    body: message('"method":"ping","method ":"tools/call","params":{"name":"drop_table"}'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "trimming"],
  },
  {
    title: "a key in full-width letters",
    body: params('"name":"query","ｎａｍｅ":"drop_table"'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "compatibility forms"],
  },
  {
    title: "a key with an invisible character",
    body: params('"name":"query","na\u200bme":"drop_table"'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "invisible characters dropped"],
  },
  {
    title: "__proto__ of the message",
    body: message('"__proto__":{"method":"tools/call","params":{"name":"drop_table"}},"result":{}'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "members copied one by one"],
  },
  {
    title: "__proto__ of the params",
    body: params('"__proto__":{"name":"drop_table"}'),
    reason: "lookalike_key",
    readers: ["JSON.parse", "members copied one by one"],
  },
  // Another spelling of a value.
  {
    title: "method in other letters",
    body: message('"method":"Tools/Call","params":{"name":"drop_table"}'),
    reason: "invalid_method",
    readers: ["JSON.parse", "values in lower case"],
  },
  {
    title: "method with a blank",
    body: message('"method":"tools/call ","params":{"name":"drop_table"}'),
    reason: "invalid_method",
    readers: ["JSON.parse", "values trimmed"],
  },
  {
    title: "method with a NUL",
    body: message('"method":"tools/call\\u0000x","params":{"name":"drop_table"}'),
    reason: "invalid_method",
    readers: ["JSON.parse", "values cut at NUL"],
  },
  {
    title: "method with another slash",
    body: message('"method":"tools//call","params":{"name":"drop_table"}'),
    reason: "invalid_method",
    readers: ["JSON.parse", "method as path"],
  },
  {
    title: "method with a dot for the slash",
    body: message('"method":"tools.call","params":{"name":"drop_table"}'),
    reason: "invalid_method",
    readers: ["JSON.parse", "method as dotted name"],
  },
  {
    title: "method in a list",
    body: message('"method":["tools/call"],"params":{"name":"drop_table"}'),
    reason: "invalid_method",
    readers: ["JSON.parse", "values coerced"],
  },
  {
    title: "name in a list",
    body: params('"name":["drop_table"]'),
    reason: "invalid_tool_name",
    readers: ["JSON.parse", "values coerced"],
  },
  {
    title: "name with a blank",
    body: params('"name":" drop_table"'),
    reason: "invalid_tool_name",
    readers: ["JSON.parse", "values trimmed"],
  },
  {
    title: "name with a NUL",
    body: params('"name":"drop_table\\u0000"'),
    reason: "invalid_tool_name",
    readers: ["JSON.parse", "values cut at NUL"],
  },
  {
    title: "name in full-width letters, which Python's getattr finds",
    body: params('"name":"ｄrop_table"'),
    reason: "invalid_tool_name",
    readers: ["JSON.parse", "values in compatibility forms"],
  },
  {
    title: "name with a soft hyphen",
    body: params('"name":"drop\u00ad_table"'),
    reason: "invalid_tool_name",
    readers: ["JSON.parse", "values without invisible characters"],
  },
  {
    title: "name with half a surrogate pair",
    body: params('"name":"drop_table\\ud800"'),
    reason: "invalid_tool_name",
    readers: ["JSON.parse", "strings as UTF-8"],
  },
  {
    title: "params by position",
    body: message('"method":"tools/call","params":["drop_table"]'),
    reason: "invalid_params",
    readers: ["JSON.parse", "params by position"],
  },
  {
    title: "params by position on a method that is harmless by name",
    body: message('"method":"other/call","params":["drop_table"]'),
    reason: "invalid_params",
    readers: ["JSON.parse", "params by position"],
  },
  {
    title: "an id no double holds",
    body: '{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}',
    reason: "invalid_id",
    readers: ["JSON.parse", "ids as 32 bits"],
  },
  {
    title: "an id with a fraction",
    body: '{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
    reason: "invalid_id",
    readers: ["JSON.parse", "ids as 32 bits"],
  },
  {
    title: "id null, which some readers take for a notification",
    body: '{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"query"}}',
    reason: "invalid_id",
    readers: ["JSON.parse", "null id is no id"],
  },
  {
    title: "a call that is also a response",
    body: message('"method":"tools/call","params":{"name":"drop_table"},"result":{}'),
    reason: "not_json_rpc",
    readers: ["JSON.parse", "answers first"],
  },
  {
    title: "no version",
    body: '{"id":1,"method":"tools/call","params":{"name":"drop_table"}}',
    reason: "not_json_rpc",
    readers: ["JSON.parse", "wants 2.0"],
  },
  {
    title: "the version as a number",
    body: '{"jsonrpc":2.0,"id":1,"method":"tools/call","params":{"name":"drop_table"}}',
    reason: "not_json_rpc",
    readers: ["JSON.parse", "wants 2.0"],
  },
  // Text that only some readers accept as JSON.
  {
    title: "a byte order mark",
    body: bytes([0xef, 0xbb, 0xbf], call),
    reason: "byte_order_mark",
    readers: ["JSON.parse", "python"],
  },
  {
    title: "UTF-16",
    body: Buffer.from(call, "utf16le"),
    reason: "invalid_json",
    readers: ["JSON.parse", "python"],
  },
  {
    title: "UTF-16 with a mark",
    body: bytes([0xff, 0xfe], [...Buffer.from(call, "utf16le")]),
    reason: "invalid_utf8",
    readers: ["JSON.parse", "python"],
  },
  { title: "UTF-32", body: utf32(call), reason: "invalid_json", readers: ["JSON.parse", "python"] },
  {
    title: "a byte that is not UTF-8",
    body: bytes('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"drop_', [0xff], 'table"}}'),
    reason: "invalid_utf8",
    readers: ["JSON.parse", "drops bad bytes"],
  },
  {
    title: "a letter in two bytes",
    body: bytes(
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"',
      [0xc1, 0xa4],
      'rop_table"}}',
    ),
    reason: "invalid_utf8",
    readers: ["JSON.parse", "takes overlong bytes"],
  },
  {
    title: "half a surrogate pair in bytes",
    body: bytes(
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"drop',
      [0xed, 0xa0, 0x80],
      '_table"}}',
    ),
    reason: "invalid_utf8",
    readers: ["JSON.parse", "latin-1"],
  },
  {
    title: "NaN",
    body: params('"name":"drop_table","arguments":{"limit":NaN}'),
    reason: "invalid_json",
    readers: ["JSON.parse", "python"],
  },
  {
    title: "Infinity",
    body: params('"name":"drop_table","arguments":{"limit":-Infinity}'),
    reason: "invalid_json",
    readers: ["JSON.parse", "python"],
  },
  {
    title: "a trailing comma",
    body: params('"name":"drop_table",'),
    reason: "invalid_json",
    readers: ["JSON.parse", "first wins"],
  },
  {
    title: "a comment that hides the name",
    body: params('"name":/*"query"*/"drop_table"'),
    reason: "invalid_json",
    readers: ["JSON.parse", "first wins"],
  },
  {
    title: "single quotes",
    body: "{'jsonrpc':'2.0','id':1,'method':'tools/call','params':{'name':'drop_table'}}",
    reason: "invalid_json",
    readers: ["JSON.parse", "yaml"],
  },
  {
    title: "an escape that only some readers know",
    body: params('"name":"\\x64rop_table"'),
    reason: "invalid_json",
    readers: ["JSON.parse", "yaml"],
  },
  {
    title: "a control character in a string",
    body: params('"name":"drop_table","arguments":{"a":"\t"}'),
    reason: "invalid_json",
    readers: ["JSON.parse", "yaml"],
  },
  {
    title: "a leading zero",
    body: call.replace(":1,", ":01,"),
    reason: "invalid_json",
    readers: ["JSON.parse", "yaml"],
  },
  {
    title: "a second document",
    body: `${ping}${call}`,
    reason: "invalid_json",
    readers: ["JSON.parse", "first wins"],
  },
  {
    title: "two lines",
    body: `${ping}\n${call}`,
    reason: "invalid_json",
    readers: ["JSON.parse", "line by line"],
  },
  {
    title: "nesting that some readers reject",
    body: params(`"name":"drop_table","arguments":{"a":${nested(200)}}`),
    reason: "too_deep",
    readers: ["JSON.parse", "wants it shallow"],
  },
  // Batches.
  { title: "an empty batch", body: "[]", reason: "empty_batch", readers: ["JSON.parse", "wants a message"] },
  {
    title: "a batch in a batch",
    body: `[[${call}]]`,
    reason: "not_json_rpc",
    readers: ["JSON.parse", "flattens batches"],
  },
  {
    title: "a batch with another value",
    body: `[1,${call}]`,
    reason: "not_json_rpc",
    readers: ["JSON.parse", "skips what it does not know"],
  },
  {
    title: "a batch with a duplicate inside",
    body: `[${ping},{"jsonrpc":"2.0","id":2,"method":"ping","Method":"tools/call","params":{"name":"drop_table"}}]`,
    reason: "lookalike_key",
    readers: ["JSON.parse", "any letter case"],
  },
  {
    title: "a batch that is too long",
    body: `[${Array.from({ length: 101 }, () => ping).join(",")}]`,
    reason: "batch_too_long",
    readers: ["JSON.parse", "wants few"],
  },
  {
    title: "a string",
    body: '"tools/call"',
    reason: "not_json_rpc",
    readers: ["JSON.parse", "wants a message"],
  },
  // Headers that determine how the body is read.
  {
    title: "gzip",
    body: gzipSync(call),
    headers: { "content-encoding": "gzip" },
    reason: "content_encoding",
    readers: ["JSON.parse", "gunzip"],
  },
  {
    title: "brotli",
    body: brotliCompressSync(call),
    headers: { "content-encoding": "br" },
    reason: "content_encoding",
    readers: ["JSON.parse", "brotli"],
  },
  {
    title: "Content-Encoding gzip on plain text",
    body: call,
    headers: { "content-encoding": "gzip" },
    reason: "content_encoding",
    readers: ["JSON.parse", "gunzip"],
  },
  {
    title: "identity",
    body: call,
    headers: { "content-encoding": "identity, gzip" },
    reason: "content_encoding",
    readers: ["JSON.parse", "gunzip"],
  },
  {
    title: "text/plain",
    body: call,
    headers: { "content-type": "text/plain" },
    reason: "content_type",
    readers: ["JSON.parse", "JSON only"],
  },
  {
    title: "no type",
    body: call,
    headers: { "content-type": undefined },
    reason: "content_type",
    readers: ["JSON.parse", "JSON only"],
  },
  {
    title: "two types",
    body: call,
    headers: { "content-type": "application/json, text/plain" },
    reason: "content_type",
    readers: ["JSON.parse", "JSON only"],
  },
  {
    title: "another JSON media type",
    body: call,
    headers: { "content-type": "application/json5" },
    reason: "content_type",
    readers: ["JSON.parse", "JSON only"],
  },
  {
    title: "a form",
    body: "jsonrpc=2.0&method=tools/call&name=drop_table",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    reason: "content_type",
    readers: ["JSON.parse", "form"],
  },
  {
    title: "lines of JSON",
    body: `${ping}\n${call}`,
    headers: { "content-type": "application/x-ndjson" },
    reason: "content_type",
    readers: ["JSON.parse", "line by line"],
  },
  {
    title: "charset UTF-7",
    body: params('"name":"+AGQ-rop_table"'),
    headers: { "content-type": "application/json; charset=utf-7" },
    reason: "content_type",
    readers: ["JSON.parse", "UTF-7"],
  },
  {
    title: "charset UTF-16",
    body: Buffer.from(call, "utf16le"),
    headers: { "content-type": "application/json; charset=utf-16le" },
    reason: "content_type",
    readers: ["JSON.parse", "UTF-16"],
  },
  {
    title: "two charsets",
    body: params('"name":"+AGQ-rop_table"'),
    headers: { "content-type": "application/json; charset=utf-8; charset=utf-7" },
    reason: "content_type",
    readers: ["JSON.parse", "UTF-7"],
  },
  {
    title: "Mcp-Method of another method",
    body: call,
    headers: { "mcp-method": "ping" },
    reason: "header_mismatch",
    readers: ["JSON.parse", "routes by header"],
  },
  {
    title: "Mcp-Name of another tool",
    body: params('"name":"query"'),
    headers: { "mcp-method": "tools/call", "mcp-name": "drop_table" },
    reason: "header_mismatch",
    readers: ["JSON.parse", "routes by header"],
  },
  {
    title: "Mcp-Name of another tool, encoded",
    body: params('"name":"query"'),
    headers: { "mcp-name": "=?base64?ZHJvcF90YWJsZQ==?=" },
    reason: "header_mismatch",
    readers: ["JSON.parse", "routes by header"],
  },
  {
    title: "Mcp-Name that does not decode",
    body: params('"name":"query"'),
    headers: { "mcp-name": "=?base64?cXVlcnk?=" },
    reason: "header_mismatch",
    readers: ["JSON.parse", "routes by header"],
  },
  {
    title: "Mcp-Name on a message without a name",
    body: ping,
    headers: { "mcp-method": "ping", "mcp-name": "drop_table" },
    reason: "header_mismatch",
    readers: ["JSON.parse", "routes by header"],
  },
  {
    title: "Mcp-Method on a response",
    body: message('"result":{}'),
    headers: { "mcp-method": "tools/call" },
    reason: "header_mismatch",
    readers: ["JSON.parse", "routes by header"],
  },
  {
    title: "Mcp-Method on a batch",
    body: `[${ping}]`,
    headers: { "mcp-method": "ping" },
    reason: "header_mismatch",
    readers: ["JSON.parse", "routes by header"],
  },
  // A body where none, or a shorter one, is expected.
  {
    title: "GET with a body",
    body: call,
    method: "GET",
    reason: "unexpected_body",
    readers: ["JSON.parse", "body by HTTP method"],
  },
  {
    title: "DELETE with a body",
    body: call,
    method: "DELETE",
    reason: "unexpected_body",
    readers: ["JSON.parse", "body by HTTP method"],
  },
  {
    title: "PUT",
    body: call,
    method: "PUT",
    reason: "http_method",
    readers: ["JSON.parse", "body by HTTP method"],
  },
  {
    title: "a body shorter than its Content-Length",
    body: call,
    headers: { "content-length": "9000" },
    reason: "body_incomplete",
    readers: ["JSON.parse", "as long as it says"],
  },
  {
    title: "a body longer than its Content-Length",
    body: call,
    headers: { "content-length": "40" },
    reason: "body_incomplete",
    readers: ["JSON.parse", "as long as it says"],
  },
];
