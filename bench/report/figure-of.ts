/** A value with its unit, as Grafana's units are named: `s`, `bytes`, `percentunit`, `reqps`, `ops`, else a plain number. */
export function figureOf(value: number, unit: string): string {
  const short = (number: number) => Number(number.toPrecision(3)).toString();
  if (unit === "percentunit") return `${short(value * 100)} %`;
  if (unit === "reqps" || unit === "ops") return `${short(value)}/s`;
  if (value === 0) return "0";
  if (unit === "bytes") return `${short(value / 2 ** 20)} MiB`;
  if (unit === "s") {
    if (value >= 1) return `${short(value)} s`;
    return value >= 0.001 ? `${short(value * 1000)} ms` : `${short(value * 1_000_000)} µs`;
  }
  return short(value);
}
