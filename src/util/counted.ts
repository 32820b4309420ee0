/** A number with its noun: `1 grant`, `2 grants`. @param plural of the noun (with an s) */
export function counted(number: number, noun: string, plural = `${noun}s`): string {
  return `${number} ${number === 1 ? noun : plural}`;
}
