import { boundedCache } from "../util/bounded-cache.ts";
import { SingleFlight } from "../util/single-flight.ts";
import { readJsonObject } from "./json.ts";

/** A metadata document as fetched; `json` only where it succeeded, with a JSON object. */
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
   * The document at `url`; callers of one key share one request. `scope` separates those who may not see each other's documents.
   *
   * @throws what `call` throws, unless a copy not older than a day is at hand.
   */
  get(scope: string, url: string, call: typeof globalThis.fetch): Promise<MetadataDocument>;
  /** The next look at anything in this scope asks the server again. */
  forget(scope: string): void;
}

/** What discovery asks with: the first revision that has the header, which every server knows. */
export const discoveryHeaders = { "mcp-protocol-version": "2025-06-18" } as const;

const floorMs = 60_000;
const ceilingMs = 3_600_000;
const usableOnErrorMs = 86_400_000;
/** A server that fails is not asked again for so long: it may take its time to. */
export const failureMs = 5_000;

/**
 * @param options.entries documents kept; the least recently used gives way.
 * @param options.onLookup told whether a fresh copy was at hand.
 * @param options.onEvict told of each document that gave way.
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
      // Only a document can be unchanged: a failure must not become one by a 304.
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
      // A copy: setting an entry moves it to where the iteration is headed, which would then never end.
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

/** RFC 9111 `max-age`, ms, between floor and ceiling: a consent page in a hurry asks once, a moved server is noticed. */
function freshness(headers: Headers): number {
  const control = headers.get("cache-control") ?? "";
  if (/\bno-(store|cache)\b/i.test(control)) return floorMs;
  const maxAge = /\bmax-age="?(\d+)/i.exec(control)?.[1];
  return Math.min(Math.max(Number(maxAge ?? 0) * 1000, floorMs), ceilingMs);
}
