/** The key of gRPC metadata that names such a call inside this process. */
const callKey = "x-mcp-auth-call";
const calls = new Map<string, () => void>();
let last = 0;

/**
 * Names a gRPC call whose caller has shown nothing in its metadata: grpc-js gives a service the call's metadata, but not its
 * connection.
 *
 * @param headers of the call, before grpc-js reads them; what a caller says under that key is overwritten.
 * @param onProven called once the service has found out that the caller is Envoy.
 * @returns to be called when the call is over.
 */
export function nameUnprovenCall(headers: Record<string, unknown>, onProven: () => void): () => void {
  const name = String(++last);
  headers[callKey] = name;
  calls.set(name, onProven);
  return () => calls.delete(name);
}

/** The caller has shown nothing in the call's metadata (`Metadata` of grpc-js), but its message proves that it is Envoy. */
export function provenByMessage(metadata: { get(key: string): readonly unknown[] }): void {
  const [name] = metadata.get(callKey);
  calls.get(String(name))?.();
}
