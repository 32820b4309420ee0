/**
 * A text of another party without characters that are invisible or alter the text around them: control and format characters
 * (bidirectional overrides, zero-width spaces, tags), line breaks and stacked combining marks.
 */
export function plainText(text: string): string {
  const visible = text
    .replaceAll(/[\p{Z}\s]+/gu, " ")
    .replaceAll(/[\p{C}\p{Default_Ignorable_Code_Point}]/gu, "");
  return visible.replaceAll(/(\p{M}{3})\p{M}+/gu, "$1").trim();
}

const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** A text of another party on one line of a terminal: what would control it or reorder the line is shown as `?`. */
export function printable(text: string): string {
  return text.replaceAll(unprintable, "?");
}

/** The same, with its line ends. */
export function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}

/** JSON text with the same value for a terminal: JSON.stringify escapes few of these characters. */
export function escaped(json: string): string {
  return json.replaceAll(unprintable, (found) =>
    found
      .split("")
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join(""),
  );
}
