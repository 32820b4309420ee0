import { expect, it } from "vitest";
import { printPages } from "../../src/cli/listing.ts";

it("prints no control characters of names, which terminals obey", async () => {
  let printed = "";
  const write = (text: string) => {
    printed += text;
  };
  const options = { file: "", env: {}, out: write, err: write, drained: async () => true };
  const columns = [
    ["user", "user_id", (one: string) => one],
    ["routes", "route_ids", (one: string) => [one, "b"]],
  ] as const;
  const pages = (async function* () {
    yield ["\u001b]0;title\u0007\nal\u202eice"];
  })();
  await printPages(options, { columns, cursor: (one: string) => [one] }, pages);
  expect(printed.split("\n")).toEqual([
    "USER               ROUTES",
    "?]0;title??al?ice  ?]0;title??al?ice,b",
    "",
  ]);
});
