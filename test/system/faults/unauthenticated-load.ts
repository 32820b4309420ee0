import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import type { Fault, Scene } from "./fault.ts";
import { observe } from "./load.ts";
import { issuer, publicHost } from "./world-config.ts";

const issuerHost = new URL(issuer).host;
/** Wait after a closed connection before the next one, ms. */
const againMs = 5_000;
/** Open requests per HTTP/2 connection. */
const streamsEach = 20;

/**
 * Many unauthenticated connections, each of which stops in one of six states and is opened again when it is closed, while others
 * work.
 */
export const slowUnauthenticated: Fault = {
  name: "slow unauthenticated connections",
  short: true,
  async run(scene) {
    const size = scene.short ? 240 : 2_000;
    const people = scene.short ? 40 : 200;
    // In the long form there is no other load: the two cores also run the attacking clients.
    scene.rest(!scene.short);
    const calls = await workers(scene, people);
    // Each has already called once, so that two hundred simultaneous first calls are not measured.
    for (const call of calls) await observe(scene.fetch, call);
    const crowd = unauthenticatedClients(scene, size);
    let heap = 0;
    const watching = new AbortController();
    const watched = (async () => {
      while (!watching.signal.aborted) {
        const { allocated } = await (await fetch(`${scene.edge.admin}/memory`)).json();
        heap = Math.max(heap, Number(allocated));
        await delay(500);
      }
    })();
    // In the long form, each of 200 people calls every five seconds.
    await scene.hammer(calls, 40, scene.short ? 14_000 : 120_000);
    scene.rest(false);
    watching.abort();
    await watched;
    const { opened, closed } = crowd.stop();
    return `${size} connections at a time, ${opened} in all, ${closed} closed by Envoy; its heap at most ${Math.ceil(heap / 1024 ** 2)} MiB`;
  },
};

/** Calls of this many people, without connections. */
async function workers(scene: Scene, count: number) {
  const people = Array.from({ length: count }, (_, index) => `company/worker${index}`);
  return Promise.all(
    people.map(async (userId) => ({
      ...(await scene.seed.call(userId, await scene.seed.grant(userId), "open")),
      // The server behind this route gets no token.
      owner: undefined,
    })),
  );
}

/** Keeps `size` connections open, a sixth of each kind. */
function unauthenticatedClients({ edge }: Pick<Scene, "edge">, size: number) {
  const open = new Set<Socket>();
  const sessions = new Set<ClientHttp2Session>();
  let opened = 0;
  let closed = 0;
  let stopped = false;
  const tls = (servername: string, protocol: string) =>
    connectTls({ host: "127.0.0.1", port: edge.port, servername, ca: edge.ca, ALPNProtocols: [protocol] });
  const head = (host: string, path: string) =>
    `POST ${path} HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\n`;
  const sending = (text: string, host: string) => () => {
    const socket = tls(host, "http/1.1");
    socket.write(text);
    // An occasional byte, as if the request continued.
    const more = setInterval(() => socket.write("x"), 2_000);
    socket.once("close", () => clearInterval(more));
    return socket;
  };
  const kinds: (() => Socket)[] = [
    () => connectTcp(edge.port, "127.0.0.1"),
    () => tls(publicHost, "http/1.1"),
    sending(`${head(publicHost, "/open")}x-slow: `, publicHost),
    sending(`${head(publicHost, "/inspected")}content-length: 900000\r\n\r\n{`, publicHost),
    sending(`${head(issuerHost, "/oauth/token")}content-length: 10000\r\n\r\na`, issuerHost),
    () => {
      const socket = tls(issuerHost, "h2");
      const session = connectHttp2(issuer, { createConnection: () => socket });
      sessions.add(session.on("error", () => {}));
      session.once("close", () => sessions.delete(session));
      session.once("connect", () => {
        for (let index = 0; index < streamsEach; index++) {
          const stream = session.request({
            ":method": "POST",
            ":path": "/oauth/token",
            "content-type": "application/x-www-form-urlencoded",
          });
          stream.on("error", () => {}).write("a");
        }
      });
      return socket;
    },
  ];
  const begin = (kind: () => Socket) => {
    if (stopped) return;
    opened++;
    const socket = kind();
    open.add(socket);
    socket.on("error", () => {}).resume();
    socket.once("close", () => {
      open.delete(socket);
      if (stopped) return;
      closed++;
      setTimeout(begin, againMs, kind);
    });
  };
  for (let index = 0; index < size; index++) {
    const kind = kinds[index % kinds.length];
    // Spread over several seconds: this machine also does the other side of each handshake.
    if (kind) setTimeout(begin, (index / size) * againMs, kind);
  }
  return {
    stop() {
      stopped = true;
      for (const session of sessions) session.destroy();
      for (const socket of open) socket.destroy();
      return { opened, closed };
    },
  };
}
