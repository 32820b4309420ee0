/** How long after a read has failed it is tried again, ms. */
const againMs = 5_000;

/**
 * Handles each item with what the store says. Those whose read fails do not keep the others from being handled, and come again later.
 *
 * @param isOpen whether an item still matters
 * @param handle rejects if the store is unavailable
 * @param again called after a while, with the items that are left
 */
export async function untilRead<T>(
  items: readonly T[],
  isOpen: (item: T) => boolean,
  handle: (item: T) => Promise<void>,
  again: (left: readonly T[], reason: string) => Promise<void>,
): Promise<void> {
  const failed: T[] = [];
  let reason = "";
  for (const item of items) {
    try {
      await handle(item);
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
      failed.push(item);
    }
  }
  if (failed.length === 0) return;
  setTimeout(() => {
    const left = failed.filter(isOpen);
    if (left.length > 0) void again(left, reason);
  }, againMs).unref();
}
