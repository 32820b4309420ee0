/** Runs the calls of `work` one after another: an older reading never replaces a newer one. */
export function serialized(work: () => Promise<void>): () => Promise<void> {
  let last: Promise<void> = Promise.resolve();
  return () => {
    const done = last.then(work);
    last = done.catch(() => {});
    return done;
  };
}
