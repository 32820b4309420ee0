import { httpBrowser } from "../../support/http-browser.ts";

/** The person: signs in as alice, agrees to everything, returns the client's callback. */
export function person(fetch: typeof globalThis.fetch, redirectUri: string, openidProvider: string) {
  const browser = httpBrowser({ fetch, stopAt: (url) => url.href.startsWith(redirectUri) });
  return {
    /**
     * Follows an authorization URL to its end. Resolves with the callback's parameters.
     * @throws Error with the last page if the flow does not return to the client.
     */
    async authorize(location: URL): Promise<URLSearchParams> {
      const page = await browser.agree(await browser.open(location), (origin) =>
        origin === openidProvider ? { login: "alice", password: "wonderland" } : undefined,
      );
      if (!page.url.href.startsWith(redirectUri)) {
        const text = page.html.replace(/<style[\s\S]*?<\/style>|<[^>]+>|\s+/g, " ").slice(0, 600);
        throw new Error(`the authorization flow ended on ${page.url.href} (${page.status}): ${text}`);
      }
      return page.url.searchParams;
    },
  };
}
