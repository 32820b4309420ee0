/** Upstreams and clients of the zoo that do not work today, and why that is ours to mend. The test says so when one does. */
export const notYet: Readonly<Record<"upstreams" | "clients", Readonly<Record<string, string>>>> = {
  upstreams: {
    atlassian: "the metadata names another issuer than the one asked for: needs expected_issuer",
    "atlassian-v2": "the metadata names another issuer than the one asked for: needs expected_issuer",
    figma: "who is not registered is told server_error instead of the reason",
    gitlab: "a registration answer with client_secret: null is not read",
    "python-sdk":
      "Basic is used before the server's own order, and the registration lacks the scopes asked for later",
    slack: "the metadata names another issuer than the one asked for: needs expected_issuer",
    "slack-app": "a token under authed_user is not found",
    vercel: "who is not registered is told server_error instead of the reason",
  },
  clients: {
    chatgpt: "the origin is not taken for the resource of the host's only route",
    "chatgpt-document": "the origin is not taken for the resource of the host's only route",
  },
};
