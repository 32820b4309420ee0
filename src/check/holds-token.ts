/** So many characters at a token's end tell it from any other: of a JWT they are its signature's. */
const tail = 48;

/**
 * Whether a text of the caller's holds a token, or the end of it. Never the whole token against the whole text: both are the
 * caller's to choose, and the search would take as long as the product of their lengths.
 */
export function holdsToken(text: string, token: string): boolean {
  return text.length >= tail && token.length > tail
    ? text.includes(token.slice(-tail))
    : token.length <= tail && text.includes(token);
}
