/** The fields we read of an `envoy.service.auth.v3.CheckRequest`; strings have one character per byte, so that nothing is replaced. */
export interface CheckRequest {
  /** Absent: the check does not contain an HTTP request. */
  readonly http?: {
    /** Empty where Envoy sent none. */
    readonly method: string;
    readonly path: string;
    readonly host: string;
    /** Name, value, name, value: as received, including pseudo-headers. */
    readonly headers: readonly string[];
    readonly rawBody?: Buffer;
    /** The body where Envoy sends it as a string: it has replaced each byte that is not UTF-8 with `!`. */
    readonly textBody?: Buffer;
  };
  readonly sourceIp?: string;
  readonly contextExtensions: Readonly<Record<string, string>>;
}

/** Field numbers of `proto/envoy/service/auth/v3/external_auth.proto` and what it imports. */
const attributes = { source: 1, request: 4, contextExtensions: 10 } as const;
const request = {
  method: 2,
  headers: 3,
  path: 4,
  host: 5,
  textBody: 11,
  rawBody: 12,
  headerMap: 13,
} as const;
/** Larger messages contain a body: only their strings are converted. Bytes. */
const smallMessage = 64 * 1024;

/** One message, the position in it, and what has been read: one object per check, and no closures. */
class Reader {
  readonly message: Buffer;
  /** The whole message as a string, if it is small. */
  readonly whole: string | undefined;
  at = 0;
  method = "";
  path = "";
  host = "";
  rawBody: Buffer | undefined = undefined;
  textBody: Buffer | undefined = undefined;
  isHttp = false;
  sourceIp: string | undefined = undefined;
  readonly rawHeaders: string[] = [];
  readonly joinedHeaders: string[] = [];
  /** No prototype: a key may have any name. */
  readonly contextExtensions: Record<string, string> = Object.create(null);
  /** The latest map entry or HeaderValue. */
  entryName = "";
  entryValue = "";

  constructor(message: Buffer) {
    this.message = message;
    this.whole = message.length <= smallMessage ? message.toString("latin1") : undefined;
  }

  /** Reads the fields up to `end`; `read` returns false to skip one. */
  fields(end: number, read: FieldReader): void {
    while (this.at < end) {
      const tag = this.varint();
      const wireType = tag & 7;
      if (wireType !== 2 || !read(this, tag >>> 3)) this.skip(wireType);
    }
    if (this.at !== end) invalid();
  }

  /** Reads the message in the current field. */
  inside(read: FieldReader): boolean {
    this.fields(this.fieldEnd(), read);
    return true;
  }

  /** A map entry or a HeaderValue: name and value; a HeaderValue's `raw_value` takes precedence. */
  entry(isUtf8: boolean): void {
    let name = "";
    let value = "";
    let rawValue = "";
    const end = this.fieldEnd();
    while (this.at < end) {
      const tag = this.varint();
      if (tag === 0x0a) name = isUtf8 ? this.utf8() : this.string();
      else if (tag === 0x12) value = isUtf8 ? this.utf8() : this.string();
      else if (tag === 0x1a) rawValue = isUtf8 ? this.utf8() : this.string();
      else this.skip(tag & 7);
    }
    if (this.at !== end) invalid();
    this.entryName = name;
    this.entryValue = rawValue === "" ? value : rawValue;
  }

  skip(wireType: number): void {
    if (wireType === 0) this.varint();
    else if (wireType === 1) this.at += 8;
    else if (wireType === 2) this.at = this.fieldEnd();
    else if (wireType === 5) this.at += 4;
    else invalid();
    if (this.at > this.message.length) invalid();
  }

  varint(): number {
    let byte = this.message[this.at++] ?? invalid();
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    for (let factor = 128; byte >= 0x80; factor *= 128) {
      if (factor > 2 ** 63) invalid();
      byte = this.message[this.at++] ?? invalid();
      value += (byte & 0x7f) * factor;
    }
    return value;
  }

  /** The end of the current length-delimited field. */
  fieldEnd(): number {
    const length = this.varint();
    const end = this.at + length;
    return end <= this.message.length ? end : invalid();
  }

  string(): string {
    const end = this.fieldEnd();
    const text =
      this.whole === undefined
        ? this.message.toString("latin1", this.at, end)
        : this.whole.substring(this.at, end);
    this.at = end;
    return text;
  }

  utf8(): string {
    const end = this.fieldEnd();
    const text = this.message.toString("utf8", this.at, end);
    this.at = end;
    return text;
  }

  bytes(): Buffer {
    const end = this.fieldEnd();
    const bytes = this.message.subarray(this.at, end);
    this.at = end;
    return bytes;
  }
}

/** Reads the current length-delimited field, or returns false to skip it. */
type FieldReader = (reader: Reader, field: number) => boolean;

/**
 * Decodes the fields we read of a CheckRequest and skips all others. Several times faster than protobufjs, which creates two
 * objects per message of the schema and decodes every header value as UTF-8; a test compares the two.
 *
 * Each byte of a string becomes one character: non-ASCII characters remain detectable and are denied later.
 *
 * @throws RangeError when the message is not valid protobuf.
 */
export function decodeCheckRequest(bytes: Buffer): CheckRequest {
  const reader = new Reader(bytes);
  reader.fields(bytes.length, readCheck);
  const { isHttp, method, path, host, rawBody, textBody, sourceIp, contextExtensions } = reader;
  const headers = reader.rawHeaders.length > 0 ? reader.rawHeaders : reader.joinedHeaders;
  const http = isHttp ? { method, path, host, headers, rawBody, textBody } : undefined;
  return { http, sourceIp, contextExtensions };
}

function readCheck(reader: Reader, field: number): boolean {
  return field === 1 && reader.inside(readAttribute);
}
function readAttribute(reader: Reader, field: number): boolean {
  switch (field) {
    case attributes.source:
      return reader.inside(readPeer);
    case attributes.request:
      return reader.inside(readRequest);
    case attributes.contextExtensions: {
      reader.entry(true);
      reader.contextExtensions[reader.entryName] = reader.entryValue;
      return true;
    }
    default:
      return false;
  }
}
function readPeer(reader: Reader, field: number): boolean {
  return field === 1 && reader.inside(readAddress);
}
function readAddress(reader: Reader, field: number): boolean {
  return field === 1 && reader.inside(readSocketAddress);
}
function readSocketAddress(reader: Reader, field: number): boolean {
  if (field !== 2) return false;
  reader.sourceIp = reader.string();
  return true;
}
function readRequest(reader: Reader, field: number): boolean {
  if (field !== 2) return false;
  reader.isHttp = true;
  return reader.inside(readHttp);
}
function readHttp(reader: Reader, field: number): boolean {
  switch (field) {
    case request.method:
      reader.method = reader.string();
      return true;
    case request.path:
      reader.path = reader.string();
      return true;
    case request.host:
      reader.host = reader.string();
      return true;
    case request.headers:
      reader.entry(false);
      reader.joinedHeaders.push(reader.entryName, reader.entryValue);
      return true;
    case request.headerMap:
      return reader.inside(readHeaderMap);
    case request.rawBody:
      reader.rawBody = reader.bytes();
      return true;
    case request.textBody:
      reader.textBody = reader.bytes();
      return true;
    default:
      return false;
  }
}
function readHeaderMap(reader: Reader, field: number): boolean {
  if (field !== 1) return false;
  reader.entry(false);
  reader.rawHeaders.push(reader.entryName, reader.entryValue);
  return true;
}

function invalid(): never {
  throw new RangeError("the message is not a CheckRequest");
}
