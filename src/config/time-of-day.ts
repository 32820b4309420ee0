/** `16:30`, `16:30:00`, `4:30PM` or `4 PM` as `HH:MM:SS`; a YAML number (16:30 in base 60) is no time. `undefined` otherwise. */
export function timeOfDay(value: string | number | boolean): string | undefined {
  const match = /^(\d{1,2})(?::(\d\d)(?::(\d\d)(?:\.\d+)?)?)? ?([AP]M)?$/i.exec(String(value).trim());
  if (match === null) return undefined;
  const [, hourText, minute = "00", second = "00", half] = match;
  let hour = Number(hourText);
  if (half === undefined) {
    if (match[2] === undefined || hour > 23) return undefined;
  } else {
    if (hour < 1 || hour > 12) return undefined;
    hour = (hour % 12) + (half.toUpperCase() === "PM" ? 12 : 0);
  }
  if (Number(minute) > 59 || Number(second) > 59) return undefined;
  return `${String(hour).padStart(2, "0")}:${minute}:${second}`;
}
