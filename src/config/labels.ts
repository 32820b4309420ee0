import { z } from "zod";

/** Labels per route, and characters of a value. */
const maxLabels = 32;
const maxLabelLength = 1024;
/** As Kubernetes' label keys, without their rules for the part before the slash. */
const labelKey = /^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?$/;

/** Labels that applications know by name: listings have them as members, too. The order is that of listings. */
const namedLabels = ["availability", "model_intent", "allow_in_plan_mode"] as const;
/** Values of the label `availability`: whether an application offers the server to its users. */
export const availabilities = ["force_on", "default_on", "default_off"] as const;

/** `labels` of a route, as written; values become text. */
export function labelsSchema() {
  const text = z
    .union([z.string(), z.number(), z.boolean()])
    .transform((value) => String(value).trim())
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are rejected here
    .refine((value) => value.length <= maxLabelLength && !/[\u0000-\u001f\u007f]/.test(value), {
      error: "the value has a line break or another control character, or is too long",
      params: { fix: `write one line of at most ${maxLabelLength} characters` },
    });
  return z.record(z.string(), text).superRefine((given, issues) => {
    const fail = (path: string[], message: string, fix: string) =>
      issues.addIssue({ code: "custom", path, message, params: { fix } });
    if (Object.keys(given).length > maxLabels)
      fail([], `more than ${maxLabels} labels`, "remove some of them");
    for (const [name, value] of Object.entries(given)) {
      if (!labelKey.test(name))
        fail(
          [name],
          `${JSON.stringify(name)} is not the name of a label`,
          "write up to 128 letters, digits, . _ - and /, with a letter or digit at both ends",
        );
      if (name === "availability" && !availabilities.some((one) => one === value))
        fail([name], `${name} has an unknown value`, `write one of: ${availabilities.join(", ")}`);
      if (name === "allow_in_plan_mode" && value !== "true" && value !== "false")
        fail([name], `${name} is neither true nor false`, "write true or false");
    }
  });
}

/** The members of a listing's entry: `labels`, and the named ones by their names; nothing without labels. */
export function labelMembers(
  labels: Readonly<Record<string, string>> | undefined,
): Readonly<Record<string, unknown>> {
  if (labels === undefined) return {};
  const named = namedLabels
    .filter((name) => Object.hasOwn(labels, name))
    .map((name) => [name, name === "allow_in_plan_mode" ? labels[name] === "true" : labels[name]]);
  return { ...Object.fromEntries(named), labels };
}
