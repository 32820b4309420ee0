const controls = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;

/** Text that others have written, on one line: terminals obey control characters. */
export function printable(text: string): string {
  return text.replace(controls, "?");
}

/** The same, with its line ends. */
export function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}
