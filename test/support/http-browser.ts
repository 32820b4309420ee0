import { type HTMLElement, parse } from "node-html-parser";
import { CookieJar } from "tough-cookie";

/** The response after redirects; for a redirect that `stopAt` matched, its target and no text. */
export interface Page {
  readonly url: URL;
  readonly status: number;
  readonly headers: Headers;
  readonly html: string;
}

/** A headless browser without JavaScript: cookies, redirects and forms. */
export interface HttpBrowser {
  readonly jar: CookieJar;
  open(url: string | URL): Promise<Page>;
  /** Submits the page's form that has all of `values` as fields (else the first); `button` is `name=value`. */
  submit(page: Page, values: Readonly<Record<string, string>>, button?: string): Promise<Page>;
  /**
   * Continues from `page` like a user who agrees: fills sign-in forms with the account that `signIn` has for their origin, presses Allow
   * (else the first button) of every other form, until there is no form or `stopAt` matches.
   */
  agree(page: Page, signIn: SignInFor): Promise<Page>;
}

/** Name and password at the server of this origin. */
export type SignInFor = (origin: string) => { login: string; password: string } | undefined;

/**
 * @param options.stopAt redirect targets that are not followed: the MCP client's redirect URI
 * @param options.jar another browser's cookies: its user is signed in here, too
 */
export function httpBrowser(options: {
  fetch: typeof globalThis.fetch;
  stopAt?: (url: URL) => boolean;
  jar?: CookieJar;
}): HttpBrowser {
  const jar =
    options.jar ?? new CookieJar(undefined, { prefixSecurity: "strict", rejectPublicSuffixes: false });

  async function request(target: URL, form?: URLSearchParams): Promise<Page> {
    let url = target;
    let body = form;
    let referrer: URL | undefined;
    for (let hop = 0; hop < 20; hop += 1) {
      if (hop > 0 && options.stopAt?.(url)) return { url, status: 302, headers: new Headers(), html: "" };
      const cookie = await jar.getCookieString(url.href);
      const response = await options.fetch(url.href, {
        method: body ? "POST" : "GET",
        redirect: "manual",
        headers: {
          accept: "text/html,application/xhtml+xml",
          "sec-fetch-mode": "navigate",
          "sec-fetch-dest": "document",
          "sec-fetch-site": referrer && referrer.origin !== url.origin ? "cross-site" : "same-origin",
          ...(cookie && { cookie }),
          ...(body && { origin: url.origin, "content-type": "application/x-www-form-urlencoded" }),
        },
        body: body?.toString(),
      });
      for (const header of response.headers.getSetCookie()) {
        await jar.setCookie(header, url.href, { ignoreError: true });
      }
      const location = response.headers.get("location");
      if (response.status < 300 || response.status > 399 || !location) {
        return { url, status: response.status, headers: response.headers, html: await response.text() };
      }
      await response.body?.cancel();
      if (response.status !== 307 && response.status !== 308) body = undefined;
      referrer = url;
      url = new URL(location, url);
    }
    throw new Error(`more than 20 redirects from ${target.href}`);
  }

  async function submit(
    page: Page,
    values: Readonly<Record<string, string>>,
    button?: string,
  ): Promise<Page> {
    const forms = parse(page.html).querySelectorAll("form");
    const form = forms.find((one) => Object.keys(values).every((name) => field(one, name))) ?? forms[0];
    if (!form) throw new Error(`no form on ${page.url.href} (${page.status}): ${page.html.slice(0, 500)}`);
    const fields = new URLSearchParams();
    for (const input of form.querySelectorAll("input, select, textarea")) {
      const name = input.getAttribute("name");
      const type = input.getAttribute("type");
      const isTicked = input.hasAttribute("checked") || (type !== "checkbox" && type !== "radio");
      if (name && type !== "submit" && isTicked) fields.append(name, input.getAttribute("value") ?? "");
    }
    for (const [name, value] of Object.entries(values)) fields.set(name, value);
    if (button) fields.set(...split(button));
    const action = new URL(form.getAttribute("action") ?? page.url.href, page.url);
    if (form.getAttribute("method")?.toLowerCase() === "post") return request(action, fields);
    action.search = fields.toString();
    return request(action);
  }

  return {
    jar,
    open: (url) => request(new URL(url)),
    submit,
    async agree(start, signIn) {
      let page = start;
      for (let step = 0; step < 10; step += 1) {
        const form = parse(page.html).querySelector("form");
        if (!form) return page;
        const values = field(form, "password") ? signIn(page.url.origin) : {};
        if (!values) throw new Error(`nobody knows how to sign in at ${page.url.origin}`);
        const first =
          form.querySelector('button[name="decision"][value="allow"]') ?? form.querySelector("button[name]");
        const button = first && `${first.getAttribute("name")}=${first.getAttribute("value") ?? ""}`;
        page = await submit(page, { ...values }, button ?? undefined);
      }
      throw new Error(`still on a form after ten steps: ${page.url.href}`);
    },
  };
}

function field(form: HTMLElement, name: string): HTMLElement | null {
  return form.querySelector(`[name="${name}"]`);
}

function split(pair: string): [string, string] {
  const at = pair.indexOf("=");
  return at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
}
