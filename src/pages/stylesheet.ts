import { createHash } from "node:crypto";

const css = `
:root{color-scheme:light dark;--page:#f3f5f8;--card:#fff;--text:#171a21;--muted:#565d6b;--line:#dce0e7;--accent:#2952cc;--accent-text:#fff;--soft:#edf1fc;--warn:#854500;--warn-soft:#fff3e0;--bad:#b3261e;--good:#166b3b;--good-soft:#e6f5ec;--shadow:0 1px 2px rgb(15 23 42/.06),0 14px 40px -12px rgb(15 23 42/.14)}
@media(prefers-color-scheme:dark){:root{--page:#101216;--card:#191c22;--text:#eceef2;--muted:#a5acba;--line:#30353f;--accent:#8fabff;--accent-text:#0d1017;--soft:#222a3d;--warn:#ffc680;--warn-soft:#34291a;--bad:#ff9d95;--good:#7edba5;--good-soft:#183024;--shadow:0 14px 40px -12px rgb(0 0 0/.6)}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;min-height:100vh;min-height:100dvh;display:flex;flex-direction:column;align-items:center;gap:1.1rem;padding:clamp(1.1rem,5vh,3.5rem) 1rem 2rem;background:var(--page);color:var(--text);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
header,main,footer{width:100%;max-width:31rem}
.wide{max-width:58rem}
header{display:flex;align-items:center;gap:.6rem;padding:0 .25rem;font-weight:650;letter-spacing:-.005em}
header svg{flex:none;width:1.6rem;height:1.6rem;color:var(--accent)}
main{padding:clamp(1.25rem,4.5vw,2.25rem);background:var(--card);border:1px solid var(--line);border-radius:1rem;box-shadow:var(--shadow)}
main>:last-child{margin-bottom:0}
h1{margin:0 0 .75rem;font-size:1.45rem;line-height:1.28;font-weight:680;letter-spacing:-.015em;text-wrap:balance}
h1 em{font-style:normal;color:var(--accent)}
h2{margin:1.75rem 0 .35rem;font-size:1.05rem;font-weight:650}
h3{margin:0;font-size:1rem;font-weight:650;display:flex;flex-wrap:wrap;align-items:center;gap:.2rem .6rem}
p{margin:.5rem 0;text-wrap:pretty}
a{color:var(--accent);text-underline-offset:.15em}
code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88em;overflow-wrap:anywhere}
footer,.muted{color:var(--muted);font-size:.9rem}
footer{text-align:center}
footer:empty{display:none}
.nowrap{white-space:nowrap}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.head{display:flex;gap:1rem;align-items:center;margin-bottom:1rem}
.head h1{margin:0}
.mark{flex:none;width:2.75rem;height:2.75rem;border-radius:.75rem;background:var(--soft);color:var(--accent);display:grid;place-items:center;font-weight:700;font-size:1.2rem;overflow:hidden}
.mark img{width:100%;height:100%;object-fit:contain}
dl{margin:1rem 0;border:1px solid var(--line);border-radius:.7rem}
dl>div{display:grid;grid-template-columns:8.25rem 1fr;gap:.25rem 1rem;padding:.65rem .95rem}
dl>div+div{border-top:1px solid var(--line)}
dt{color:var(--muted)}
dd{margin:0;min-width:0;overflow-wrap:anywhere}
ul.plain{list-style:none;margin:.5rem 0;padding:0}
ul.plain>li{padding:.3rem 0 .3rem 1.7rem;position:relative}
ul.plain>li::before{content:"\\2713";position:absolute;left:.2rem;color:var(--good);font-weight:700}
.note{margin:1rem 0;padding:.7rem .95rem;border-radius:.7rem;background:var(--soft)}
.note.warn{background:var(--warn-soft);color:var(--warn)}
.note.good{background:var(--good-soft);color:var(--good)}
.tag{display:inline-block;padding:.08rem .55rem;border-radius:.7rem;background:var(--soft);color:var(--accent);font-size:.8rem;font-weight:600}
.tag.warn{background:var(--warn-soft);color:var(--warn)}
.tag.good{background:var(--good-soft);color:var(--good)}
.tag.plain{background:transparent;color:var(--muted);box-shadow:inset 0 0 0 1px var(--line)}
.actions{display:flex;flex-wrap:wrap;gap:.75rem;margin-top:1.5rem}
.actions>*{flex:1 1 9rem}
button,.button{display:inline-block;min-height:2.85rem;padding:.6rem 1.1rem;border:1px solid var(--line);border-radius:.7rem;background:transparent;color:var(--text);font:inherit;font-weight:600;text-align:center;text-decoration:none;text-wrap:balance;cursor:pointer}
input[type=text]{width:100%;min-height:2.85rem;padding:.6rem .8rem;border:1px solid var(--muted);border-radius:.7rem;background:var(--page);color:var(--text);font:inherit}
label{font-weight:600}
button.primary,.button.primary{background:var(--accent);border-color:var(--accent);color:var(--accent-text)}
button:hover,.button:hover{border-color:var(--accent)}
button.primary:hover,.button.primary:hover{filter:brightness(1.08)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
.stack{display:grid;gap:.75rem;margin-top:1.25rem}
.top{display:flex;flex-wrap:wrap;justify-content:space-between;align-items:baseline;gap:.25rem 1.5rem}
.top h1,.top p{margin:0}
.rows{list-style:none;margin:.9rem 0 0;padding:0;border:1px solid var(--line);border-radius:.8rem}
.rows>li{display:grid;grid-template-columns:auto 1fr auto;gap:.25rem 1rem;padding:1rem}
.rows>li+li{border-top:1px solid var(--line)}
.rows p{margin:.1rem 0}
.rows form{align-self:center}
.rows button{min-width:8.5rem}
.rows.pick>li{grid-template-columns:auto auto 1fr;align-items:start}
.rows .stack{margin:0}
.problem{color:var(--bad)}
input[type=checkbox]{width:1.35rem;height:1.35rem;margin:.7rem 0 0;accent-color:var(--accent)}
.facts{display:flex;flex-wrap:wrap;gap:.15rem 1.6rem;margin:.45rem 0 0;border:0;font-size:.9rem}
.facts>div,.facts>div+div{display:flex;gap:.4rem;padding:0;border:0}
ul.names{list-style:none;margin:0;padding:0}
ul.names>li{padding:.15rem 0}
.removable>li{display:flex;flex-wrap:wrap;align-items:center;gap:.2rem .75rem}
.rows .removable form{margin:0}
.rows button.small{min-width:0;width:auto;min-height:1.9rem;padding:.15rem .7rem;font-size:.85rem}
summary{cursor:pointer}
.empty{margin:.9rem 0 0;padding:1.1rem 1rem;border:1px dashed var(--line);border-radius:.8rem;color:var(--muted)}
@media(max-width:34rem){dl>div{grid-template-columns:1fr}.actions>*{flex-basis:100%}.rows>li{grid-template-columns:auto 1fr}.rows form{grid-column:1/-1;margin-top:.6rem}.rows button{width:100%}.facts{flex-direction:column}}
@media(forced-colors:active){button,.button,.tag,.note{border:1px solid}}
`;

/** The stylesheet of all pages, and the Content Security Policy source that allows exactly its text (CSP3 section 8.4). */
export const stylesheet = styleOf(css);

/** A stylesheet and its source. */
export function styleOf(text: string): { readonly css: string; readonly source: string } {
  return { css: text, source: `'sha256-${createHash("sha256").update(text).digest("base64")}'` };
}
