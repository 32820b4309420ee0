import type dns from "node:dns";
import dnsPromises from "node:dns/promises";
import { syncBuiltinESMExports } from "node:module";
import tls from "node:tls";

/**
 * Preloaded into the sidecar (`--import`): hosts of the catalog are on loopback, at `CATALOG_PORT` instead of 443. TLS, names and paths
 * are the real ones. They resolve like public hosts, as do the gateway's, so that documents can be client ids.
 */
const port = Number(process.env.CATALOG_PORT);
const publicAddress = { address: "93.184.215.14", family: 4 };
const connect = tls.connect;
const redirected = (...args: unknown[]) => {
  const [first] = args;
  if (typeof first === "object" && first !== null && "host" in first && "port" in first) {
    const isPublic =
      typeof first.host === "string" && /[a-z]/i.test(first.host) && first.host !== "localhost";
    // As text: undici keeps the port as written in the URL.
    if (isPublic && Number(first.port) === 443) args[0] = { ...first, host: "127.0.0.1", port };
  }
  const socket: tls.TLSSocket = Reflect.apply(connect, tls, args);
  if (args[0] !== first) Object.defineProperty(socket, "remoteAddress", { value: publicAddress.address });
  return socket;
};
Object.assign(tls, { connect: redirected });

const lookup = dnsPromises.lookup;
Object.assign(dnsPromises, {
  lookup: async (name: string, options: dns.LookupAllOptions) =>
    /\.(?:upstreams|clients)\.test$/.test(name) ? [publicAddress] : lookup(name, options),
});
syncBuiltinESMExports();
