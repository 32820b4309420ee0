/** More layers than any server decodes. */
const mostLayers = 5;

/**
 * How the most forgiving server could read a path: decoded as often as possible, backslashes as slashes, `;parameters` cut off
 * each segment, dots and blanks at its end too, dot segments resolved, slashes merged. A slash at the end stays.
 */
export function loosePath(path: string): string {
  if (/^[A-Za-z0-9/_~-]*$/.test(path) && !path.includes("//")) return path;
  const decoded = decodedFully(path);
  // Behind these it is no path to some.
  const end = decoded.search(/[?#\p{Cc}]/u);
  const segments: string[] = [];
  let open = false;
  for (const written of (end < 0 ? decoded : decoded.slice(0, end)).replaceAll("\\", "/").split("/")) {
    const cut = written.split(";", 1)[0] ?? "";
    const segment = cut === ".." ? cut : withoutEnd(cut);
    open = segment === "" || segment === "..";
    if (segment === "..") segments.pop();
    else if (segment !== "") segments.push(segment);
  }
  const joined = `/${segments.join("/")}`;
  return open && joined !== "/" ? `${joined}/` : joined;
}

/** Without dots and blanks at its end. By hand: a pattern that is tried at every dot takes quadratic time. */
function withoutEnd(segment: string): string {
  let end = segment.length;
  while (end > 0 && /[.\s]/.test(segment[end - 1] ?? "")) end -= 1;
  return segment.slice(0, end);
}

/** Percent-decoded until nothing changes, in compatibility form: a fullwidth letter is a letter. */
export function decodedFully(text: string): string {
  let decoded = text;
  for (let layer = 0; layer < mostLayers && decoded.includes("%"); layer += 1) {
    const next = decoded.replace(/(?:%[0-9a-f]{2})+/gi, (run) =>
      Buffer.from(run.replaceAll("%", ""), "hex").toString("utf8"),
    );
    if (next === decoded) break;
    decoded = next;
  }
  return decoded.normalize("NFKC");
}
