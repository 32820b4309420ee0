/** A name of the greatest length that MCP clients accept. */
export const longName = `long_${"x".repeat(54)}_name`;
/** A name that is not made of `[A-Za-z0-9_-]`. */
export const oddName = "odd.name";

export const form = {
  type: "object" as const,
  properties: { name: { type: "string" as const, description: "Your name" } },
  required: ["name"],
};
export const page = "https://pages.example.com/pay";
export const widget = { uri: "ui://widget/main.html", html: "<p>a widget</p>" };
export const cities = ["paris", "park", "party"];
