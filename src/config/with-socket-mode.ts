/**
 * Runs `bind`, which makes a Unix socket, so that the file has these permissions from its first moment on: a mode set
 * afterwards would leave it open to everybody for a while.
 */
export async function withSocketMode<T>(mode: number, bind: () => Promise<T>): Promise<T> {
  const before = process.umask(0o777 & ~mode);
  try {
    return await bind();
  } finally {
    process.umask(before);
  }
}
