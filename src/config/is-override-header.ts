/** Set by Envoy itself, which overwrites or appends to what a client has sent. */
const envoys = new Set(["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
const overriding = new Set([
  "cf-connecting-ip",
  "fastly-client-ip",
  "forwarded",
  "front-end-https",
  "true-client-ip",
  "x-client-ip",
  "x-cluster-client-ip",
  "x-host",
  "x-http-method",
  "x-http-method-override",
  "x-method-override",
  "x-original-host",
  "x-original-method",
  "x-original-uri",
  "x-original-url",
  "x-real-ip",
  "x-rewrite-url",
]);

/**
 * Whether a request header overriding another path, method, host or address than the request has: some servers go by it, and policy
 * has judged the request. Underscores count as hyphens.
 *
 * @param name in lower case.
 */
export function isOverrideHeader(name: string): boolean {
  const plain = name.includes("_") ? name.replaceAll("_", "-") : name;
  return overriding.has(plain) || (plain.startsWith("x-forwarded-") && !envoys.has(name));
}
