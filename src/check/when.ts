/** Goes on at once with a value at hand, and after it with a promise: the warm path must not pay for promises (design.md). */
export function when<T, R>(value: T | Promise<T>, next: (value: T) => R | Promise<R>): R | Promise<R> {
  return value instanceof Promise ? value.then(next) : next(value);
}
