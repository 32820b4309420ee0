/**
 * Bytes on a process's heap after a garbage collection, and its resident set; asked over the inspector.
 *
 * @param log of a process started with `--inspect=127.0.0.1:0`.
 */
export async function heapUsed(log: string): Promise<{ heap: number; resident: number }> {
  // `serve` restarts itself with its own flags: the last one is alive.
  const url = [...log.matchAll(/Debugger listening on (ws:\S+)/g)].at(-1)?.[1];
  if (url === undefined) throw new Error("the process has no inspector");
  const socket = new WebSocket(url);
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", reject);
  });
  let id = 0;
  const ask = (method: string, params: object = {}) =>
    new Promise<{ result?: { value?: unknown } }>((resolve) => {
      const mine = ++id;
      socket.addEventListener("message", ({ data }) => {
        const answer = JSON.parse(String(data));
        if (answer.id === mine) resolve(answer.result);
      });
      socket.send(JSON.stringify({ id: mine, method, params }));
    });
  await ask("HeapProfiler.collectGarbage");
  const { result } = await ask("Runtime.evaluate", {
    expression: "JSON.stringify(process.memoryUsage())",
  });
  socket.close();
  const usage = JSON.parse(String(result?.value));
  return { heap: usage.heapUsed + usage.external, resident: usage.rss };
}
