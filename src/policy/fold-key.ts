/**
 * The word a lenient parser may take a key for: compatibility forms, letter case (Unicode's, as Go's decoder folds it:
 * `ſ` is an `s`), accents, invisible characters, blanks and separators all fall away.
 */
export function foldKey(key: string): string {
  return key
    .normalize("NFKD")
    .toUpperCase()
    .toLowerCase()
    .replace(/[\p{C}\p{M}\p{P}\p{Z}\p{S}]/gu, "");
}
