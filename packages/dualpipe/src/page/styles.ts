// How the page looks. Colours of the parts are those of the SVG picture, and follow the viewer's preference for light or dark.
import { fills, inks, parts, type Theme } from '../palette';

/** Colours beside those of the picture. */
const more: Readonly<Record<Theme, Readonly<Record<string, string>>>> = {
  light: {
    raised: '#f5f7fa',
    accent: '#1f5fbf',
    fault: '#b3261e',
    good: '#1f6b43',
    edge: '#b4bdca',
  },
  dark: {
    raised: '#1a202a',
    accent: '#8ab4f8',
    fault: '#ff9a8f',
    good: '#7ad0a0',
    edge: '#465062',
  },
};

function variables(theme: Theme): string {
  const colours = { ...inks[theme], ...more[theme] };
  return [
    ...Object.entries(colours).map(([name, value]) => `--${name}:${value}`),
    ...parts.flatMap((part) =>
      fills[theme][part].map((fill, shade) => `--${part}${shade}:${fill}`),
    ),
  ].join(';');
}

/** The page's style sheet. */
export function styleSheet(): string {
  return `
:root{color-scheme:light dark;${variables('light')}}
@media (prefers-color-scheme:dark){:root{${variables('dark')}}}
*{box-sizing:border-box}
html{background:var(--paper);color:var(--text);font:15px/1.5 ui-sans-serif,system-ui,sans-serif;-webkit-text-size-adjust:100%}
body{margin:0;min-height:100vh;display:flex;flex-direction:column}
.top,main{width:100%;max-width:1760px;margin:0 auto;padding:0 clamp(12px,2.4vw,36px)}
main{flex:1;padding-bottom:28px}
h1{font-size:21px;line-height:1.25;font-weight:650;letter-spacing:-.01em;margin:0}
h2{font-size:16px;font-weight:650;margin:0 0 8px}
.top{display:flex;flex-wrap:wrap;gap:2px 16px;align-items:baseline;padding-block:18px 10px}
.top p{color:var(--faint);margin:0}
button,input,select{font:inherit;color:inherit}
button{border:1px solid var(--edge);background:var(--paper);border-radius:6px;padding:3px 11px;cursor:pointer}
button:hover:not(:disabled){background:var(--raised);border-color:var(--faint)}
button:disabled{opacity:.45;cursor:default}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.settings{border-block:1px solid var(--line);padding:8px 0}
summary{cursor:pointer;font-weight:600;color:var(--text)}
.settings form{display:flex;flex-wrap:wrap;gap:14px 36px;padding-top:8px}
fieldset{border:0;margin:0;padding:0;min-width:0}
legend{font-size:13px;font-weight:600;padding:0;margin-bottom:4px}
.fields{display:flex;flex-wrap:wrap;gap:10px 14px;align-items:flex-start}
.field{width:min-content;min-width:88px}
.field label{display:block;white-space:nowrap;font-size:13px;color:var(--faint)}
.field var{font-style:normal;color:var(--text);font-weight:600}
input[type=number],select{width:100%;height:32px;padding:2px 8px;border:1px solid var(--edge);border-radius:6px;background:var(--paper);font-variant-numeric:tabular-nums}
input[type=number]::placeholder{color:var(--faint);opacity:1;font-size:12px}
select{width:auto;max-width:100%;padding-right:4px}
[aria-invalid=true]{border-color:var(--fault)!important;box-shadow:inset 0 0 0 1px var(--fault)}
.fault{margin:3px 0 0;font-size:12.5px;line-height:1.35;color:var(--fault);white-space:normal}
.fault:empty{display:none}
.choices{display:flex;flex-wrap:wrap;gap:4px 14px;align-items:center;margin-bottom:6px;font-size:13px}
.choices label{display:flex;gap:6px;align-items:center}
.choices input{margin:0}
.choices button{font-size:13px;padding:1px 9px}
.phases{border-collapse:collapse;font-size:13px}
.phases th{font-weight:400;color:var(--faint);text-align:left;padding:0 8px 3px 0}
.phases td{padding:0 8px 5px 0;vertical-align:top}
.phases td input{width:84px;height:28px}
[hidden]{display:none!important}
.bar{display:flex;flex-wrap:wrap;gap:8px 24px;align-items:center;justify-content:space-between;padding:12px 0 4px;font-size:13px}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;margin:0;padding:0}
.legend li{display:flex;align-items:center;gap:7px}
.legend canvas{border-radius:2px}
.legend .note{color:var(--faint)}
.zoom{display:flex;align-items:center;gap:6px;margin-left:auto}
.zoom button{min-width:32px;height:28px;padding:0 8px}
.zoom span,.zoom label{color:var(--faint)}
.pan{display:flex;align-items:center;gap:8px;margin-right:10px}
.pan:has(:disabled){visibility:hidden}
.pan input{width:clamp(90px,11vw,180px)}
.row{padding:12px 0 8px}
.row+.row{border-top:1px solid var(--line)}
#rows .remove{font-size:13px;padding:1px 9px}
.row header{display:flex;flex-wrap:wrap;align-items:center;gap:4px 12px}
.row select{font-weight:650;font-size:16px;border-color:transparent;margin-left:-8px;background:transparent;field-sizing:content}
.row select:hover{border-color:var(--edge)}
.row .about{color:var(--faint);font-size:13.5px;flex:1;min-width:12em}
.facts{display:flex;flex-wrap:wrap;gap:2px 22px;margin:4px 0 2px;font-size:14px}
.facts div{display:flex;gap:7px}
.facts dt{color:var(--faint)}
.facts dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums}
.form{margin:0 0 6px;font-size:14px}
.form .when{color:var(--faint)}
.form b{font-weight:600}
.form .yes{color:var(--good)}
.form .no{color:var(--accent)}
.form .sign{font-weight:700;margin-right:.35em}
.refused{margin:6px 0;padding:10px 14px;border-left:3px solid var(--fault);background:var(--raised);border-radius:0 6px 6px 0;display:flex;flex-wrap:wrap;gap:6px 14px;align-items:center}
.refused p{margin:0;color:var(--fault)}
.ranks{border-collapse:collapse;width:100%;table-layout:fixed;font-size:12.5px;line-height:1;font-variant-numeric:tabular-nums}
.ranks th,.ranks td{padding:0;height:var(--pitch);font-weight:400;vertical-align:middle;white-space:nowrap;overflow:hidden}
.ranks thead th{height:20px;color:var(--faint);text-align:right}
.ranks thead th:first-child,.ranks tbody th{text-align:left}
.ranks .c-rank{width:62px}.ranks .c-idle{width:70px}.ranks .c-bubble{width:62px}.ranks .c-held{width:76px}
.ranks tbody td{text-align:right}
.ranks tr.chosen th{font-weight:700;color:var(--accent)}
.ranks tr.all td,.ranks tr.all th{color:var(--faint);height:24px}
.ranks .lane{position:relative;vertical-align:top;text-align:left;overflow:visible}
.stage{position:relative;cursor:crosshair;touch-action:pan-y;border-radius:3px}
.stage.drag{cursor:grabbing}
.stage canvas{display:block;position:absolute;inset:0;width:100%;height:100%}
.stage:focus-visible{outline-offset:1px}
.more{margin:6px 0 20px}
.scroll{overflow-x:auto}
.side table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
.side th,.side td{padding:4px 22px 4px 0;text-align:right;white-space:nowrap}
.side th:first-child{text-align:left;font-weight:600}
.side thead th{font-weight:400;color:var(--faint);border-bottom:1px solid var(--line)}
.side tbody tr+tr>*{border-top:1px solid var(--line)}
.help{margin-top:22px;font-size:14px;color:var(--faint)}
.help p{max-width:90ch;margin:8px 0}
.transport{position:sticky;bottom:0;background:var(--paper);border-top:1px solid var(--edge);padding:8px clamp(12px,2.4vw,36px) 10px;z-index:2}
.steps{display:flex;align-items:center;gap:6px}
.steps button{min-width:36px;height:30px;padding:0 8px;display:inline-grid;place-items:center}
#play[aria-pressed=true] .off,#play[aria-pressed=false] .on{display:none}
.steps input{flex:1;min-width:60px;height:30px}
.steps output{min-width:9.5em;text-align:right;font-variant-numeric:tabular-nums;font-size:14px}
input[type=range]{accent-color:var(--accent)}
.words{margin-top:4px;height:116px;overflow-y:auto;font-size:13.5px;line-height:1.4}
.words p{margin:0}
.what{font-weight:650;font-size:14px}
.why{display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));gap:2px 28px}
.why b{font-weight:600;display:block}
.noscript{padding:40px;font-weight:600}
@media (max-width:720px){
html{font-size:14px}
.settings form{gap:14px 24px}
.field{min-width:92px}
.ranks{font-size:11px}
.ranks .c-rank{width:20px}.ranks .c-idle{width:40px}.ranks .c-held{width:52px}
.ranks .c-bubble,.ranks .bubble{display:none}
.pan:has(:disabled){display:none}
.ranks .word{display:none}
.phases td input{width:64px;padding:2px 4px}
.phases th,.phases td{padding-right:4px}
.steps output{min-width:6em;font-size:12.5px}
.steps button{min-width:32px;padding:0 5px}
.words{height:100px;font-size:13px}
.zoom{margin-left:0}
.row header{justify-content:space-between}
.row .about{order:3;flex-basis:100%}
.facts{gap:1px 14px}
}
@media (forced-colors:active){.stage{border:1px solid CanvasText}}
`;
}
