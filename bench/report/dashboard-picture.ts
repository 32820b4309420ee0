import { figureOf } from "./figure-of.ts";

/** As much of Grafana's dashboard JSON as a picture needs. */
export interface Dashboard {
  readonly title: string;
  readonly panels: readonly {
    readonly id: number;
    readonly type: string;
    readonly title: string;
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
    readonly fieldConfig?: { readonly defaults?: { readonly unit?: string } };
    readonly targets?: readonly { readonly expr: string; readonly legendFormat?: string }[];
  }[];
}

/** One line of a panel: seconds since the start of the picture, and values. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [second: number, value: number])[];
}

const column = 62;
const line = 29;
const colours = ["#3274d9", "#e0752d", "#37872d", "#8f3bb8", "#e02f44", "#b58900", "#0a8f8f", "#705da0"];
const mostInLegend = 6;
const letters = 5.6;

/**
 * A dashboard as one SVG without scripts: panels where `gridPos` has them, with their lines and legends.
 * @param series by panel id
 * @param seconds that the picture spans
 */
export function dashboardPicture(
  dashboard: Dashboard,
  series: ReadonlyMap<number, readonly Series[]>,
  seconds: number,
): string {
  const bottom = Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => y + h));
  const [width, height] = [24 * column, bottom * line + 40];
  const drawn = dashboard.panels.map(({ id, type, title, gridPos, fieldConfig }) => {
    const [x, y] = [gridPos.x * column, gridPos.y * line + 40];
    if (type === "row")
      return `<text x="${x + 8}" y="${y + 20}" font-size="14" font-weight="bold">⌄ ${xml(title)}</text>`;
    const size = { width: gridPos.w * column - 8, height: gridPos.h * line - 8 };
    const lines = series.get(id) ?? [];
    const unit = fieldConfig?.defaults?.unit ?? "short";
    return `<g transform="translate(${x + 4} ${y + 4})">${panel(title, size, lines, unit, seconds)}</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="Verdana, sans-serif" font-size="10" fill="#24292e">`,
    `<title>Dashboard ${xml(dashboard.title)}</title>`,
    '<rect width="100%" height="100%" fill="#f4f5f5"/>',
    `<text x="8" y="26" font-size="17">${xml(dashboard.title)}</text>`,
    ...drawn,
    "</svg>",
    "",
  ].join("\n");
}

function panel(
  title: string,
  { width, height }: { width: number; height: number },
  series: readonly Series[],
  unit: string,
  seconds: number,
): string {
  const plot = { left: 58, right: width - 10, top: 30, bottom: height - 56 };
  const values = series.flatMap(({ points }) => points.map(([, value]) => value));
  const scale = unit === "bytes" ? 2 ** 20 : 1;
  const top = niceTop(Math.max(0, ...values) / scale) * scale;
  const xOf = (second: number) => plot.left + ((plot.right - plot.left) * second) / seconds;
  const yOf = (value: number) => plot.bottom - ((plot.bottom - plot.top) * value) / top;
  const parts = [
    `<rect width="${width}" height="${height}" fill="#fff" stroke="#d8d9da"/>`,
    `<text x="10" y="18" font-size="12">${xml(title)}</text>`,
  ];
  if (values.length === 0) {
    const [x, y] = [width / 2, (plot.top + plot.bottom) / 2];
    parts.push(`<text x="${x}" y="${y}" text-anchor="middle" fill="#6e7378">No data</text>`);
    return parts.join("");
  }
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const y = yOf(share * top).toFixed(1);
    parts.push(`<path d="M${plot.left} ${y}H${plot.right}" stroke="#e7e8ea"/>`);
    const label = xml(figureOf(share * top, unit));
    parts.push(
      `<text x="${plot.left - 5}" y="${y}" dy="3.5" text-anchor="end" fill="#6e7378">${label}</text>`,
    );
  }
  for (let second = 0; second < seconds - 5; second += 20) {
    const x = xOf(second).toFixed(1);
    parts.push(
      `<text x="${x}" y="${plot.bottom + 14}" text-anchor="middle" fill="#6e7378">${second} s</text>`,
    );
  }
  for (const [index, { name, points }] of series.entries())
    parts.push(
      `<path d="${pathOf(points, xOf, yOf)}" fill="none" stroke="${colourAt(index)}" stroke-width="1.5"><title>${xml(name)}</title></path>`,
    );
  parts.push(legend(series, plot.left - 46, plot.bottom + 30, width - 10));
  return parts.join("");
}

/** A gap of more than two seconds in the data is one in the line. */
function pathOf(
  points: Series["points"],
  xOf: (second: number) => number,
  yOf: (value: number) => number,
): string {
  let before = Number.NEGATIVE_INFINITY;
  return points
    .map(([second, value]) => {
      const to = `${second - before > 2 ? "M" : "L"}${xOf(second).toFixed(1)} ${yOf(value).toFixed(1)}`;
      before = second;
      return to;
    })
    .join("");
}

/** Two lines of names; what finds no place is counted. */
function legend(series: readonly Series[], left: number, y: number, right: number): string {
  const parts: string[] = [];
  let [x, row] = [left, 0];
  for (const [index, { name }] of series.entries()) {
    const wide = name.length * letters + 26;
    if (x + wide > right && x > left) [x, row] = [left, row + 1];
    if (row > 1 || index >= mostInLegend) {
      parts.push(`<text x="${right}" y="${y + 15}" text-anchor="end">+ ${series.length - index}</text>`);
      break;
    }
    const at = y + row * 15;
    parts.push(
      `<rect x="${x}" y="${at - 4}" width="12" height="3" fill="${colourAt(index)}"/>`,
      `<text x="${x + 16}" y="${at}">${xml(name)}</text>`,
    );
    x += wide;
  }
  return parts.join("");
}

const colourAt = (index: number) => colours[index % colours.length];

/** The next of 1, 2, 4, 5, 8 times a power of ten. */
function niceTop(most: number): number {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return power * ([1, 2, 4, 5, 8, 10].find((step) => step * power >= most) ?? 10);
}

function xml(text: string): string {
  return text.replace(/[<>&"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
}
