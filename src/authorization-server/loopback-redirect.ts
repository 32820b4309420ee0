const loopback = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** Whether answers to this redirect URI stay on the person's own computer (RFC 8252 section 7.3). */
export function isLoopbackRedirect({ protocol, hostname }: URL): boolean {
  return protocol === "http:" && loopback.has(hostname);
}
