import { createHash } from "node:crypto";

const css = `
:root{color-scheme:light dark;--page:#f4f5f7;--card:#fff;--text:#1a1d23;--muted:#5b6270;--line:#dde0e6;--accent:#2f5bd7;--accent-text:#fff;--soft:#eef2fd;--warn:#8a4b00;--warn-soft:#fff4e3;--bad:#b3261e;--good:#1b7a43}
@media(prefers-color-scheme:dark){:root{--page:#14161a;--card:#1d2026;--text:#eceef2;--muted:#a3aab8;--line:#343943;--accent:#8aa8ff;--accent-text:#10131a;--soft:#252c3f;--warn:#ffc47a;--warn-soft:#33291a;--bad:#ff9d95;--good:#79d6a0}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:flex;flex-direction:column;align-items:center;justify-content:flex-start;gap:1.25rem;padding:clamp(1rem,6vh,4.5rem) 1rem 2rem;background:var(--page);color:var(--text);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{width:100%;max-width:30rem;padding:clamp(1.25rem,4vw,2.25rem);background:var(--card);border:1px solid var(--line);border-radius:.9rem;box-shadow:0 1px 2px rgb(0 0 0/.05),0 12px 32px rgb(0 0 0/.06)}
main.wide{max-width:56rem}
h1{margin:0 0 .75rem;font-size:1.4rem;line-height:1.3;font-weight:650;text-wrap:balance}
h2{margin:1.5rem 0 .5rem;font-size:1rem;font-weight:650}
p{margin:.5rem 0}
a{color:var(--accent)}
code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.9em;overflow-wrap:anywhere}
footer,.muted{color:var(--muted);font-size:.9rem}
footer{max-width:30rem;text-align:center}
.head{display:flex;gap:.9rem;align-items:center;margin-bottom:1rem}
.head h1{margin:0}
.mark{flex:none;width:2.75rem;height:2.75rem;border-radius:.7rem;background:var(--soft);color:var(--accent);display:grid;place-items:center;font-weight:700;font-size:1.2rem;overflow:hidden}
.mark img{width:100%;height:100%;object-fit:contain}
dl{margin:1rem 0;border:1px solid var(--line);border-radius:.6rem;overflow:hidden}
dl>div{display:grid;grid-template-columns:8.5rem 1fr;gap:.25rem 1rem;padding:.65rem .9rem}
dl>div+div{border-top:1px solid var(--line)}
dt{color:var(--muted)}
dd{margin:0;min-width:0;overflow-wrap:anywhere}
ul.plain{list-style:none;margin:.5rem 0;padding:0}
ul.plain>li{padding:.35rem 0 .35rem 1.6rem;position:relative}
ul.plain>li::before{content:"\\2713";position:absolute;left:.15rem;color:var(--good);font-weight:700}
.note{margin:1rem 0;padding:.7rem .9rem;border-radius:.6rem;background:var(--soft)}
.note.warn{background:var(--warn-soft);color:var(--warn)}
.tag{display:inline-block;padding:.1rem .55rem;border-radius:.7rem;background:var(--soft);color:var(--accent);font-size:.8rem;font-weight:600}
.tag.warn{background:var(--warn-soft);color:var(--warn)}
.actions{display:flex;flex-wrap:wrap;gap:.75rem;margin-top:1.5rem}
.actions>*{flex:1 1 9rem}
button,.button{display:inline-block;min-height:2.9rem;padding:.65rem 1.1rem;border:1px solid var(--line);border-radius:.6rem;background:transparent;color:var(--text);font:inherit;font-weight:600;text-align:center;text-decoration:none;cursor:pointer}
button.primary,.button.primary{background:var(--accent);border-color:var(--accent);color:var(--accent-text)}
button:hover,.button:hover{filter:brightness(1.07)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
.stack{display:grid;gap:.75rem;margin-top:1.25rem}
table{width:100%;border-collapse:collapse}
th,td{padding:.6rem .5rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{color:var(--muted);font-weight:600;font-size:.9rem}
@media(max-width:30rem){dl>div{grid-template-columns:1fr}.actions>*{flex-basis:100%}}
@media(forced-colors:active){button,.button,.tag{border:1px solid}}
`;

/** The one stylesheet of all pages, and the Content Security Policy source that allows exactly its text (CSP3 section 8.4). */
export const stylesheet = {
  css,
  source: `'sha256-${createHash("sha256").update(css).digest("base64")}'`,
} as const;
