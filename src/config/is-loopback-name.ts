/** Whether a URL's host name is this machine itself: `localhost`, `*.localhost` (RFC 6761), 127.0.0.0/8 or `[::1]`. */
export function isLoopbackName(hostname: string): boolean {
  return (
    hostname === "localhost" ||
    hostname.endsWith(".localhost") ||
    hostname === "[::1]" ||
    /^127(\.\d{1,3}){3}$/.test(hostname)
  );
}
