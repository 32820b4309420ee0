import { type Attributes, type Span, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";

/**
 * Runs `work`, a call to a neighbour, in a span below the one that is active. Where none is (tracing is off, or nobody waits
 * for this work) it just runs.
 *
 * @param attributes OpenTelemetry's semantic conventions; never a token, a query or a body.
 */
export function inSpan<T>(
  name: string,
  attributes: Attributes,
  work: (span: Span | undefined) => Promise<T>,
): Promise<T> {
  if (trace.getActiveSpan() === undefined) return work(undefined);
  return trace
    .getTracer("envoy-mcp-auth")
    .startActiveSpan(name, { kind: SpanKind.CLIENT, attributes }, async (span) => {
      try {
        return await work(span);
      } catch (error) {
        const code = error instanceof Error && "code" in error ? String(error.code) : "internal";
        span.setStatus({ code: SpanStatusCode.ERROR, message: code }).setAttribute("error.type", code);
        throw error;
      } finally {
        span.end();
      }
    });
}
