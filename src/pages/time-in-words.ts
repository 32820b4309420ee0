import { html } from "ghtml";

const units = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
] as const;
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always" });
const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" });

/** A time as people say it ("3 hours ago"), as HTML; the exact one is in the title, since we do not know the reader's time zone. */
export function timeInWords(time: Date, now: Date): string {
  const seconds = (time.getTime() - now.getTime()) / 1000;
  const [unit, size] = units.find(([, length]) => Math.abs(seconds) >= length) ?? [];
  const words = unit && size ? relative.format(Math.trunc(seconds / size), unit) : "just now";
  return html`<time datetime="${time.toISOString()}" title="${exact.format(time)} UTC">${words}</time>`;
}
