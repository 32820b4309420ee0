import type { BrowserContext, Locator, Page } from "playwright-core";
import type { Transcript } from "./transcript.ts";

/** Name and password at one of the demo's servers. */
export interface Login {
  readonly login: string;
  readonly password: string;
}

/** What a page asks the user: `servers` lets them connect the members of an aggregated route. */
export type PersonsForm = "sign-in" | "consent" | "servers";

/**
 * Simulates a user in the browser: opens `location`, signs in at the company, allows the client, signs in at the
 * upstream and allows the gateway there; connects no members of an aggregated route in advance. Each is a step of `transcript`; steps that the servers skip are left out.
 */
export async function person(options: {
  /** Keeps its cookies between flows: in the second one, the user is signed in. */
  context: BrowserContext;
  location: URL;
  transcript: Transcript;
  /** By origin of the sign-in form. */
  logins: Readonly<Record<string, Login>>;
  /** Names the step by the form's origin and purpose. */
  nameOf: (origin: string, form: PersonsForm) => string;
  /** Where the flow ends: the client's redirect URI. */
  end: (url: URL) => boolean;
}): Promise<void> {
  const { transcript, end } = options;
  const page = await options.context.newPage();
  page.setDefaultTimeout(60_000);
  try {
    await page.goto(options.location.href);
    for (let forms = 0; !end(new URL(page.url())); forms += 1) {
      if (forms === 10) throw new Error(`still on a form after ten: ${page.url()}`);
      const { origin } = new URL(page.url());
      const password = page.locator('input[name="password"]');
      const allow = page.locator('button[name="decision"][value="allow"]');
      const onward = page.locator('button[name="decision"][value="continue"]');
      await password.or(allow).or(onward).first().waitFor();
      const form = await formOf({ password, onward });
      await transcript.step(options.nameOf(origin, form), async () => {
        const heading = (await page.locator("h1").first().textContent())?.trim();
        if (form === "sign-in") await signIn(page, options.logins[origin], origin);
        else await press(page, form === "servers" ? onward : allow);
        return `"${heading}" at ${origin}`;
      });
    }
  } catch (error) {
    const text = (
      await page
        .locator("main")
        .textContent({ timeout: 1000 })
        .catch(() => "")
    )
      ?.trim()
      .slice(0, 400);
    const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
    throw new Error(`${reason}\nThe browser is at ${page.url()} and shows:\n${text}`, { cause: error });
  } finally {
    await page.close();
  }
}

async function formOf(page: { password: Locator; onward: Locator }): Promise<PersonsForm> {
  if ((await page.password.count()) > 0) return "sign-in";
  return (await page.onward.count()) > 0 ? "servers" : "consent";
}

async function signIn(page: Page, login: Login | undefined, origin: string): Promise<void> {
  if (!login) throw new Error(`there is no login for ${origin}`);
  await page.locator('input[name="login"]').fill(login.login);
  await page.locator('input[name="password"]').fill(login.password);
  await press(page, page.locator('button[type="submit"]').first());
}

/** Presses the button and waits for a new document, at the same URL or another. */
async function press(page: Page, button: ReturnType<Page["locator"]>): Promise<void> {
  const next = page.waitForEvent("load");
  await button.click();
  await next;
}
