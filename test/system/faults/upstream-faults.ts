import type { Fault } from "./fault.ts";
import type { Behaviour } from "./rotating-authorization-server.ts";

/** Long enough for many of the 20 s tokens to expire. */
function misbehaving(name: string, behaviour: Behaviour, short = false): Fault {
  return {
    name: `authorization server ${name}`,
    short,
    async run(scene) {
      scene.server.behave(behaviour);
      await scene.pause(12_000);
      scene.server.behave({ kind: "well" });
      await scene.pause(6_000);
      return `${scene.server.counts().failed} calls to it failed so far`;
    },
  };
}

/** Endless tool lists that arrive one byte at a time: calls to other servers do not wait for them. */
const endlessLists: Fault = {
  name: "an upstream with endless lists, one byte at a time",
  short: true,
  async run(scene) {
    const [userId = ""] = scene.users;
    const { url, token } = await scene.seed.call(userId, await scene.seed.grant(userId), "inspected");
    const stopped = new AbortController();
    const lists = Array.from({ length: scene.short ? 20 : 100 }, () =>
      scene
        .fetch(url, {
          method: "POST",
          headers: {
            authorization: `Bearer ${token}`,
            "content-type": "application/json",
            accept: "application/json, text/event-stream",
          },
          body: '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
          signal: stopped.signal,
        })
        .then((response) => response.text())
        .catch(() => ""),
    );
    await scene.pause(15_000);
    const held = scene.upstream.endless();
    stopped.abort();
    await Promise.all(lists);
    if (held === 0) throw new Error("no list was being sent");
    return `${held} lists pending at the end`;
  },
};

export const upstreamFaults: readonly Fault[] = [
  misbehaving("answering 500", { kind: "status", status: 500 }, true),
  misbehaving("answering 429, Retry-After 3", { kind: "status", status: 429, retryAfter: 3 }),
  misbehaving("hanging", { kind: "hangs" }),
  misbehaving("closing mid-body", { kind: "closes_mid_body" }),
  endlessLists,
];
