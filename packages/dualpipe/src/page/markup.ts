// The page's skeleton: its controls, and the places that the script fills.
import { escapeMarkup } from '../format';
import {
  type Field,
  fieldOf,
  messageFields,
  phaseFields,
  phaseRows,
  sizeFields,
  timeFields,
} from './fields';

/** Signs of the buttons that step through time; fonts need not have them. */
const icon = (path: string): string =>
  `<svg viewBox="0 0 16 16" width="16" height="16" fill="currentColor" aria-hidden="true">${path}</svg>`;
const icons = {
  first: icon('<path d="M3 3h2v10H3zM13 3v10L6 8z"/>'),
  back: icon('<path d="M11 3v10L4 8z"/>'),
  play: icon(
    '<path class="off" d="M4 2.5v11L13 8z"/><path class="on" d="M4 3h3v10H4zM9 3h3v10H9z"/>',
  ),
  forth: icon('<path d="M5 3v10l7-5z"/>'),
  last: icon('<path d="M11 3h2v10h-2zM3 3v10l7-5z"/>'),
};

/** A labelled box for a number, with a place for what is wrong with it. */
function numberBox(field: Field): string {
  const { name, label, symbol, least, most, whole, empty } = field;
  const limits = `min="${least}"${most === undefined ? '' : ` max="${most}"`} step="${whole ? 1 : 'any'}"`;
  const hint = empty === undefined ? '' : ` placeholder="${escapeMarkup(empty)}"`;
  const sign = symbol === undefined ? '' : ` <var>${escapeMarkup(symbol)}</var>`;
  return (
    `<div class="field" data-field="${name}"><label for="f-${name}">${escapeMarkup(label)}${sign}</label>` +
    `<input id="f-${name}" name="${name}" type="number" inputmode="decimal" ${limits}${hint} aria-describedby="e-${name}">` +
    `<p class="fault" id="e-${name}" role="status"></p></div>`
  );
}

/** Times of phases as a table: parts of a computation down, phases across. */
function phaseTable(): string {
  const phases = phaseRows[0].phases;
  const cell = (name: string): string => {
    const { label, least } = fieldOf(name);
    return (
      `<td data-field="${name}"><input id="f-${name}" name="${name}" type="number" inputmode="decimal" min="${least}" step="any" ` +
      `aria-label="${label}" aria-describedby="e-${name}"><p class="fault" id="e-${name}" role="status"></p></td>`
    );
  };
  const rows = phaseRows.map(
    (row) =>
      `<tr><th scope="row">${row.label}</th>` +
      phases
        .map((phase) =>
          (row.phases as readonly string[]).includes(phase)
            ? cell(`${row.name}-${phase}`)
            : '<td></td>',
        )
        .join('') +
      '</tr>',
  );
  const head = phases.map((phase) => `<th scope="col">${phase}</th>`).join('');
  return `<table class="phases"><thead><tr><td></td>${head}</tr></thead><tbody>${rows.join('')}</tbody></table>`;
}

/**
 * The page's body.
 * @param title - its heading
 * @returns markup
 */
export function bodyMarkup(title: string): string {
  return `
<header class="top">
<h1>${escapeMarkup(title)}</h1>
<p>What each rank computes when, for every micro-batch of a step.</p>
</header>
<main>
<details class="settings" id="settings" open>
<summary>Settings</summary>
<form id="controls" autocomplete="off" novalidate>
<fieldset><legend>Sizes</legend><div class="fields">${sizeFields.map(numberBox).join('')}</div></fieldset>
<fieldset><legend>Times of a rank’s share of the model</legend>
<div class="choices">
<label><input type="radio" name="times" value="four"> four numbers</label>
<label><input type="radio" name="times" value="phases"> phase by phase</label>
<button type="button" id="preset-unit">All 1</button>
<button type="button" id="preset-published">Published profile, ms</button>
</div>
<div class="fields" id="four">${timeFields.map(numberBox).join('')}</div>
<div class="fields" id="phases">${numberBox(phaseFields[0])}${phaseTable()}</div>
</fieldset>
<fieldset><legend>Messages</legend><div class="fields">${messageFields.map(numberBox).join('')}
<div class="field"><label for="semantics">A rank waits</label><select id="semantics" name="semantics">
<option value="buffered">for what it needs (buffered)</option><option value="rendezvous">for both ends (rendezvous)</option></select></div></div></fieldset>
</form>
</details>
<div class="bar">
<ul class="legend" aria-label="Legend" id="legend"></ul>
<div class="zoom" role="group" aria-label="Part of the time that is shown">
<label class="pan">Move <input type="range" id="pan" min="0" max="1" step="any" value="0" aria-label="Shown part of the time"></label>
<span>Zoom</span>
<button type="button" id="zoom-out" aria-label="Show more of the time">−</button>
<button type="button" id="zoom-in" aria-label="Show less of the time, larger">+</button>
<button type="button" id="zoom-all">All</button>
</div>
</div>
<div id="rows"></div>
<p class="more"><button type="button" id="add">Compare with another method</button></p>
<section class="side" id="side" aria-labelledby="side-title"><h2 id="side-title">Side by side</h2><div class="scroll"><table id="comparison"></table></div></section>
<details class="help"><summary>Keys, and how to read this</summary>
<p id="keys">On a timeline: left and right go to the computation before and after, up and down to another rank, Home and End to the first and last, plus and minus show less or more of the time, 0 all of it. Outside of a box for text, left and right step through time in all rows, and the space bar plays.</p>
<p>Drag a timeline to move it; with Ctrl or ⌘ the wheel zooms where the pointer is. A box has the letter of what is computed and its micro-batch. In an overlapped pair the forward stands above the backward. Lines lead to a computation from what it needs, and from it to what needs it.</p>
<p>Times are those of a rank’s share of the model, so that methods are compared at the same model: where a rank holds two stages, each takes half of them. An activation is held from the begin of its forward to the end of the gradient of its input. The address of the page holds all that is set: a copy of it shows the same.</p>
</details>
</main>
<footer class="transport" aria-label="Stepping through time">
<div class="steps">
<button type="button" id="first" aria-label="To the beginning">${icons.first}</button>
<button type="button" id="back" aria-label="One step back">${icons.back}</button>
<button type="button" id="play" aria-label="Play" aria-pressed="false">${icons.play}</button>
<button type="button" id="forth" aria-label="One step on">${icons.forth}</button>
<button type="button" id="last" aria-label="To the end">${icons.last}</button>
<input type="range" id="time" min="0" max="1" step="any" value="0" aria-label="Time">
<output id="clock" for="time"></output>
</div>
<div class="words" id="words" aria-live="polite"><p class="what" id="what"></p><div class="why" id="why"></div></div>
</footer>
<noscript><p class="noscript">This page computes schedules itself: it needs JavaScript.</p></noscript>
`;
}
