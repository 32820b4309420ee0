/** Preloaded into a replica (`--import`): shifts its wall clock by `CLOCK_OFFSET_MS`, but not monotonic time and timers. */
const offsetMs = Number(process.env.CLOCK_OFFSET_MS ?? 0);
const RealDate = Date;

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [RealDate.now() + offsetMs] : args, newTarget),
  apply: () => new RealDate(RealDate.now() + offsetMs).toString(),
  get: (target, name, receiver) =>
    name === "now" ? () => RealDate.now() + offsetMs : Reflect.get(target, name, receiver),
});
