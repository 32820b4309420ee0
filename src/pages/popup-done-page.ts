import { html } from "ghtml";
import { layout } from "./layout.ts";

/** The last page of a connection made in a pop-up (F5.3), with the way on for browsers that lost the opener. */
export function popupDonePage(page: {
  /** Origin of the window that opened the pop-up. */
  openerOrigin: string;
  returnTo: string;
  /** Posted to the opener. */
  message: Readonly<Record<string, string | boolean | undefined>>;
  title: string;
  text: string;
  /** URL of `popupScript`. */
  script: string;
}): string {
  return layout({
    title: page.title,
    content: html`<h1>${page.title}</h1>
<p>${page.text}</p>
<p id="done" class="actions" data-origin="${page.openerOrigin}" data-message="${JSON.stringify(page.message)}"><a class="button primary" href="${page.returnTo}">Continue</a></p>
<script src="${page.script}" defer></script>`,
  });
}

/** Our only script: tells the opener at its exact origin, then closes. What it says stands in the page's own attributes. */
export const popupScript = `const { origin, message } = document.getElementById("done").dataset;
if (window.opener) {
  window.opener.postMessage(JSON.parse(message), origin);
  window.close();
}
`;
