import { boundedCache } from "./bounded-cache.ts";

/** Keeps one copy of texts that many cached objects have in common, of the latest `max`. */
export function sharedTexts(max = 1_000): (text: string) => string {
  const texts = boundedCache<string, string>(max);
  return (text) => {
    const known = texts.get(text);
    if (known === undefined) texts.set(text, text);
    return known ?? text;
  };
}

/**
 * Keeps one list for equal texts of words, of the latest `max`.
 * @returns reads words that blanks separate (RFC 6749 section 3.3); callers share the list, which is frozen
 */
export function sharedWords(max = 1_000): (text: string) => readonly string[] {
  const lists = boundedCache<string, readonly string[]>(max);
  return (text) => {
    const known = lists.get(text);
    if (known !== undefined) return known;
    const words = Object.freeze(text.split(" ").filter(Boolean));
    lists.set(text, words);
    return words;
  };
}
