import { html } from "ghtml";

/** A page of one of the demo's own servers; works without JavaScript. `body` is HTML already escaped. */
export function demoPage(title: string, body: string): string {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 26rem; margin: 10vh auto; padding: 0 1rem }
label { display: block; margin: .75rem 0 }
input, button { font: inherit; padding: .4rem .6rem; box-sizing: border-box }
input { width: 100% }
.error { color: #b3261e }
</style>
</head>
<body>
<main>
<h1>${title}</h1>
!${body}
</main>
</body>
</html>
`;
}
