/** A `.cpuprofile` as V8 writes it. */
export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

interface Frame {
  readonly name: string;
  readonly place: string;
  time: number;
  readonly children: Map<string, Frame>;
}

const width = 1400;
const row = 17;
/** Narrower ones could not be seen. Pixels. */
const least = 0.7;

/**
 * A profile as a flame graph: one SVG without scripts, widths by time. Our own functions are orange, Node's blue, libraries'
 * grey.
 * Idle time is left out.
 */
export function flameGraph(profile: CpuProfile, title: string): string {
  const top: Frame = { name: "all", place: "", time: 0, children: new Map() };
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map(profile.nodes.flatMap(({ id, children = [] }) => children.map((one) => [one, id])));
  const hidden = new Set(["(root)", "(idle)"]);
  for (const [index, sample] of profile.samples.entries()) {
    const path = [];
    for (let id: number | undefined = sample; id !== undefined; id = parents.get(id)) {
      const node = nodes.get(id);
      if (node) path.push(node);
    }
    if (path[0]?.callFrame.functionName === "(idle)") continue;
    const time = profile.timeDeltas[index] ?? 0;
    top.time += time;
    let at = top;
    for (const { callFrame } of path.reverse()) {
      if (hidden.has(callFrame.functionName)) continue;
      at = childOf(at, callFrame);
      at.time += time;
    }
  }
  const boxes: string[] = [];
  const depth = draw(top, 0, 0, width / top.time, top.time, boxes);
  const height = (depth + 1) * row + 40;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="Verdana, sans-serif" font-size="11">`,
    "<title>Flame graph of warm checks</title>",
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="8" y="20" font-size="14">${xml(title)}</text>`,
    `<g transform="translate(0 32)">`,
    ...boxes,
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

function childOf(
  parent: Frame,
  { functionName, url, lineNumber }: { functionName: string; url: string; lineNumber: number },
): Frame {
  const place = url.replace(/^file:\/\/.*?\/(?=(src|node_modules|bench)\/)/, "");
  const key = `${functionName} ${place}:${lineNumber}`;
  let child = parent.children.get(key);
  if (!child) {
    child = { name: functionName || "(anonymous)", place, time: 0, children: new Map() };
    parent.children.set(key, child);
  }
  return child;
}

/** Returns the depth of what was drawn. */
function draw(frame: Frame, x: number, y: number, scale: number, total: number, boxes: string[]): number {
  const wide = frame.time * scale;
  if (wide < least) return y - 1;
  const label = `${frame.name}${frame.place ? ` (${frame.place.split("/").pop()})` : ""}`;
  const letters = Math.floor((wide - 6) / 6.3);
  const share = ((100 * frame.time) / total).toFixed(1);
  boxes.push(
    `<g><title>${xml(`${frame.name} ${frame.place} ${share}%`)}</title><rect x="${x.toFixed(1)}" y="${y * row}" width="${wide.toFixed(1)}" height="${row - 1}" fill="${colour(frame)}"/>${
      letters > 3
        ? `<text x="${(x + 3).toFixed(1)}" y="${y * row + 12}">${xml(label.slice(0, letters))}</text>`
        : ""
    }</g>`,
  );
  let depth = y;
  let left = x;
  for (const child of [...frame.children.values()].sort((one, other) => other.time - one.time)) {
    depth = Math.max(depth, draw(child, left, y + 1, scale, total, boxes));
    left += child.time * scale;
  }
  return depth;
}

function colour({ place, name }: Frame): string {
  if (place.startsWith("src/")) return "#f4a259";
  if (place.startsWith("node:") || (place === "" && !name.startsWith("("))) return "#9cc5e8";
  return place === "" ? "#e3b7b7" : "#d8d8d8";
}

function xml(text: string): string {
  return text.replace(/[<>&"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
}
