import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type Listener, listen } from "../../dev/demo/listen.ts";
import { mapInTime } from "../../src/util/map-in-time.ts";
import { aggregatedApp, everything, listed } from "./aggregated-app.ts";
import { onTheWeb, registeredApp } from "./mcp-app.ts";
import { type AuthorizationServerStack, startAuthorizationServer } from "./start-authorization-server.ts";

const ids = Array.from({ length: 400 }, (_, index) => `m${index}`);
/** The members whose server was asked anything. */
const asked = new Set<string>();
let upstream: Listener;
let stack: AuthorizationServerStack;
beforeAll(async () => {
  // It never answers.
  upstream = await listen(({ url = "" }) => {
    const [, id] = /\/(m\d+)/.exec(url) ?? [];
    if (id !== undefined) asked.add(id);
  });
  stack = await startAuthorizationServer("", { upstreams: true });
  const routes = [
    { id: "everything", name: "Everything", from: everything, mcp: { aggregate: { routes: ids } } },
    ...ids.map((id) => ({
      id,
      name: id,
      from: `https://${id}.test`,
      to: `${upstream.url}/${id}`,
      mcp: { server: {} },
    })),
  ].map((route) => ({ ...route, policy: [{ allow: { and: [{ accept: true }] } }] }));
  await stack.reload((current) => current + routes.map((route) => `\n  - ${JSON.stringify(route)}`).join(""));
});
afterAll(async () => {
  await stack?.close();
  await upstream?.close();
});

test("the consent page of an aggregated route with hundreds of servers that do not answer is shown, and asks few of them", async () => {
  const app = await registeredApp(stack, onTheWeb);
  const page = await aggregatedApp(stack, app, stack.browser()).consent();
  expect(listed(page)).toEqual(ids.map((id) => `${id}: Not available now`));
  // 16 at once, of which each has three of the five seconds.
  expect(asked.size).toBeGreaterThanOrEqual(16);
  expect(asked.size).toBeLessThanOrEqual(32);
});

test("a page about many servers waits for each, and for all of them together, for a limited time", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  try {
    const begun: number[] = [];
    const ask = async (item: number) => {
      begun.push(item);
      return item % 2 === 0 ? new Promise<never>(() => {}) : `answer ${item}`;
    };
    const pace = { atOnce: 2, eachMs: 300, allMs: 500 };
    const answers = mapInTime([1, 2, 3, 4, 6, 5, 7], pace, ask, (item) => `late ${item}`);
    await vi.advanceTimersByTimeAsync(299);
    expect(begun).toEqual([1, 2, 3, 4]);
    await vi.advanceTimersByTimeAsync(1);
    expect(begun).toEqual([1, 2, 3, 4, 6, 5, 7]);
    await vi.advanceTimersByTimeAsync(200);
    expect(await answers).toEqual([
      "answer 1",
      "late 2",
      "answer 3",
      "late 4",
      "late 6",
      "answer 5",
      "answer 7",
    ]);
    const rest = mapInTime([2, 4, 6, 8, 10, 1], pace, ask, (item) => `late ${item}`);
    await vi.advanceTimersByTimeAsync(500);
    expect((await rest).at(-1)).toBe("late 1");
    await expect(mapInTime([1], pace, () => Promise.reject(new Error("store")), String)).rejects.toThrow(
      "store",
    );
  } finally {
    vi.useRealTimers();
  }
});
