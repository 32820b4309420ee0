/** How long a notice, such as that of a cancellation, may take, ms. */
const noticeMs = 2_000;

/** Notices on their way to a member: they are sent before the connection closes. */
export class SentNotices {
  readonly #pending = new Set<Promise<void>>();

  add(sent: Promise<void>): void {
    const notice = sent.catch(() => {}).finally(() => this.#pending.delete(notice));
    this.#pending.add(notice);
  }

  /** Resolves when all have been sent, or when they take too long. */
  async settled(): Promise<void> {
    if (this.#pending.size > 0)
      await Promise.race([
        Promise.all(this.#pending),
        new Promise((resolve) => setTimeout(resolve, noticeMs).unref()),
      ]);
  }
}
