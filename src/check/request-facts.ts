/** What the `Authorization` header holds: nothing, one well-formed bearer token, or something else. */
export type Presented =
  | { readonly kind: "none" }
  | { readonly kind: "bearer"; readonly token: string }
  | { readonly kind: "other" };

/** What shows whether a person asks or a program; known also of a request that is denied while it is read. */
export type Requester = Pick<RequestFacts, "requestId" | "method" | "headers" | "presented">;

/** A request as every later step sees it: checked once, in `read-request-facts.ts`, and never doubted again. */
export interface RequestFacts {
  /** Envoy's `x-request-id`, else one of ours: what the error body and the log share. */
  readonly requestId: string;
  /** Lower case, with its port where the client sent one. */
  readonly host: string;
  /** Starts with `/`; no query, no dot segments, no encoded slashes; in `normalPath`'s form. */
  readonly path: string;
  /** The same as Envoy has it, which picks its route by this. */
  readonly sentPath: string;
  /** Behind the `?`, without it. */
  readonly query: string;
  readonly method: string;
  /** Names in lower case, pseudo-headers left out; several of one name joined by a comma. No prototype. */
  readonly headers: Readonly<Record<string, string>>;
  /** The names of `headers`, in the order they came. */
  readonly headerNames: readonly string[];
  /** Names of headers whose values are not ASCII: nothing is judged by these. */
  readonly opaque: readonly string[];
  readonly presented: Presented;
  readonly rawBody?: Buffer;
  readonly sourceIp?: string;
  /** What Envoy's route says of itself (`context_extensions`). */
  readonly context: Readonly<Record<string, string>>;
}
