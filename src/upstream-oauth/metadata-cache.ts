import { boundedCache } from "../util/bounded-cache.ts";
import { SingleFlight } from "../util/single-flight.ts";
import { readJsonObject } from "./json.ts";

/** A fetched metadata document; `json` only for a successful response with a JSON object. */
export interface MetadataDocument {
  readonly status: number;
  readonly json?: Readonly<Record<string, unknown>>;
}
interface Entry extends MetadataDocument {
  readonly etag?: string;
  readonly lastModified?: string;
  readonly fetchedAt: number;
  readonly freshUntil: number;
}

/** Bounded, revalidating cache of metadata documents. */
export interface MetadataCache {
  /**
   * The document at `url`; concurrent callers share one request. `scope` separates callers that must not share documents.
   *
   * @throws what `call` throws, unless a copy no older than a day is available.
   */
  get(scope: string, url: string, call: typeof globalThis.fetch): Promise<MetadataDocument>;
  /** Makes the next `get` of any document in this scope revalidate it. */
  forget(scope: string): void;
}

/** Headers of discovery: the first revision with this header, which every server supports. */
export const discoveryHeaders = { "mcp-protocol-version": "2025-06-18" } as const;

const floorMs = 60_000;
const ceilingMs = 3_600_000;
const usableOnErrorMs = 86_400_000;
/** A failing server is not called again for this long, ms. */
export const failureMs = 5_000;

/**
 * @param options.entries documents to keep; the least recently used is evicted.
 * @param options.onLookup reports whether a fresh copy was available.
 * @param options.onEvict called for each evicted document.
 */
export function createMetadataCache(options: {
  readonly entries: number;
  readonly onLookup?: (result: "hit" | "miss") => void;
  readonly onEvict?: () => void;
}): MetadataCache {
  const entries = boundedCache<string, Entry>(options.entries, {
    dispose: (_entry, _key, reason) => {
      if (reason === "evict") options.onEvict?.();
    },
  });
  const once = new SingleFlight<Entry>({ failureMs, failures: options.entries });

  async function load(
    key: string,
    url: string,
    call: typeof globalThis.fetch,
    old: Entry | undefined,
  ): Promise<Entry> {
    try {
      const headers = new Headers({ accept: "application/json", ...discoveryHeaders });
      // Only a document is revalidated: a 304 must not turn a cached failure into a document.
      const document = isDocument(old) ? old : undefined;
      if (document?.etag) headers.set("if-none-match", document.etag);
      else if (document?.lastModified) headers.set("if-modified-since", document.lastModified);
      const response = await call(url, { headers });
      const entry = await read(response, document, Date.now());
      const failed = entry.status >= 500 || entry.status === 429;
      // A failing server says nothing about the document.
      const kept = failed && isUsable(old) ? old : entry;
      return keep(key, failed ? { ...kept, freshUntil: Date.now() + failureMs } : kept);
    } catch (error) {
      if (isUsable(old) && isDocument(old)) return keep(key, { ...old, freshUntil: Date.now() + failureMs });
      throw error;
    }
  }

  function keep(key: string, entry: Entry): Entry {
    entries.set(key, entry);
    return entry;
  }

  return {
    get(scope, url, call) {
      const key = `${scope} ${url}`;
      const old = entries.get(key);
      const fresh = old !== undefined && old.freshUntil > Date.now();
      options.onLookup?.(fresh ? "hit" : "miss");
      if (fresh) return Promise.resolve(old);
      return once.run(key, () => load(key, url, call, old));
    },
    forget(scope) {
      // Iterates over a copy: setting an entry moves it to the end of the iteration, which would never finish.
      for (const [key, entry] of [...entries.entries()]) {
        if (key.startsWith(`${scope} `)) entries.set(key, { ...entry, freshUntil: 0 });
      }
    },
  };
}

function isUsable(old: Entry | undefined): old is Entry {
  return old !== undefined && Date.now() - old.fetchedAt < usableOnErrorMs;
}

function isDocument(entry: Entry | undefined): entry is Entry {
  return entry !== undefined && entry.status >= 200 && entry.status < 300;
}

async function read(response: Response, old: Entry | undefined, at: number): Promise<Entry> {
  const freshUntil = at + freshness(response.headers);
  if (response.status === 304 && old) return { ...old, fetchedAt: at, freshUntil };
  return {
    status: response.status,
    json: response.ok ? readJsonObject(await response.text()) : undefined,
    etag: response.headers.get("etag") ?? undefined,
    lastModified: response.headers.get("last-modified") ?? undefined,
    fetchedAt: at,
    freshUntil: response.ok ? freshUntil : at + floorMs,
  };
}

/** RFC 9111 `max-age`, ms, between floor and ceiling: one request per authorization, and a moved server is noticed. */
function freshness(headers: Headers): number {
  const control = headers.get("cache-control") ?? "";
  if (/\bno-(store|cache)\b/i.test(control)) return floorMs;
  const maxAge = /\bmax-age="?(\d+)/i.exec(control)?.[1];
  return Math.min(Math.max(Number(maxAge ?? 0) * 1000, floorMs), ceilingMs);
}
