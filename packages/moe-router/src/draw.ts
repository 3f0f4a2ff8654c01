// Expert loads over a run as a picture: SVG as text, for light and dark, without a dependency.
//
// One strip a layer, one row an expert, time to the right, or one column a domain; colour says load over the mean. Every row
// carries the numbers it was drawn from (`data-load`), so that a reader, or a test, can hold the picture against them.
import type { DomainColumn, LayerSummary, LoadSummary, StepColumn } from './loads';

/** Upper borders of the colours, in means; the last colour is open. Steps of equal ratio about 1. */
const borders = [0.25, 0.5, 0.75, 0.9, 1.1, 1.35, 2, 4] as const;

/** From idle to busy: in light the even share is nearly white, in dark nearly black. */
const light = [
  ...['#1f5a99', '#4a90c8', '#93c3e0', '#d3e6f2', '#f3f3f0'],
  ...['#fbdcc8', '#f2a37c', '#d9603f', '#a51d26'],
];
const dark = [
  ...['#7cc0ff', '#4b8fd0', '#34648f', '#2a4257', '#2a2d33'],
  ...['#58402f', '#96583a', '#dd7a45', '#ffb27a'],
];

type Columns = LoadSummary['columns'];

/** Left of the strips, right of them, and the picture's width. */
const [left, right, width] = [64, 124, 960];
const plot = width - left - right;
const chart = { top: 64, height: 96 };
const gap = 18;
/** Letters of a title that fit. */
const mostTitle = 96;

/**
 * The colour class of a load.
 * @param load - over the mean
 * @returns 0 (idle) … 8 (busy); 4 is within a tenth of an even share
 */
export function loadClass(load: number): number {
  const at = borders.findIndex((border) => load < border);
  return at < 0 ? borders.length : at;
}

/**
 * Draws loads over a run.
 * @param summary - from `summarizeLoads`
 * @param options - the `title`, and what the layers are called (default: their numbers)
 * @returns an SVG document
 */
export function drawLoads(
  summary: LoadSummary,
  options: { title?: string; layers?: readonly string[] } = {},
): string {
  const { title: given = 'Expert load' } = options;
  const title = given.length <= mostTitle ? given : `…${given.slice(1 - mostTitle)}`;
  const names = options.layers ?? summary.layers.map((_, index) => `layer ${index}`);
  const parts: string[] = [];
  let y = chart.top + chart.height + 44;
  for (const [index, layer] of summary.layers.entries()) {
    parts.push(strip(layer, summary.columns, names[index] ?? '', y));
    y += stripHeight(layer) + gap;
  }
  parts.push(axis(summary.columns, y - gap + 14), legend(y + 22));
  const height = y + 56;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escaped(title)}">`,
    `<style>${styles()}</style>`,
    `<rect class="page" width="${width}" height="${height}"/>`,
    `<text class="title" x="${left}" y="28">${escaped(title)}</text>`,
    violations(summary, names),
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function styles(): string {
  const fills = (colors: readonly string[]): string =>
    colors.map((color, index) => `.c${index}{fill:${color}}`).join('');
  return [
    'text{font:12px system-ui,sans-serif;fill:#333}',
    '.title{font-size:16px;font-weight:600}.small{font-size:11px;fill:#666}',
    '.end{text-anchor:end}.middle{text-anchor:middle}',
    '.page{fill:#fff}.rule{stroke:#ddd}.frame{fill:none;stroke:#bbb}.cut{stroke:#fff;stroke-width:4}',
    '.line{fill:none;stroke:#8a8f98;stroke-width:1}.mean{fill:none;stroke:#a51d26;stroke-width:2}',
    fills(light),
    '@media(prefers-color-scheme:dark){text{fill:#ddd}.small{fill:#999}.page{fill:#16181c}',
    '.rule{stroke:#333}.frame{stroke:#555}.line{stroke:#6b7280}.mean{stroke:#ffb27a}.cut{stroke:#16181c}',
    `${fills(dark)}}`,
  ].join('');
}

/** MaxVio of each layer, thin, and their mean. */
function violations({ layers, columns }: LoadSummary, names: readonly string[]): string {
  const { top, height } = chart;
  const most = Math.max(...layers.flatMap(({ batchViolation }) => batchViolation), 0.1);
  const step = tickStep(most);
  const scale = Math.ceil(most / step) * step;
  const at = (value: number): string => (top + height * (1 - value / scale)).toFixed(1);
  const x = (c: number): string => (left + (plot * c) / columns.length).toFixed(2);
  // Time goes on from column to column, where there are several; domains stand beside each other.
  const path = (values: readonly number[]): string =>
    isNamed(columns) || columns.length === 1
      ? values.map((value, c) => `M${x(c + 0.1)},${at(value)}H${x(c + 0.9)}`).join('')
      : `M${values.map((value, c) => `${x(c + 0.5)},${at(value)}`).join('L')}`;
  const mean = columns.map(
    (_, c) => layers.reduce((sum, layer) => sum + layer.batchViolation[c], 0) / layers.length,
  );
  const lines: string[] = [
    `<text class="small" x="${left}" y="${top - 12}">MaxVio of a ${isNamed(columns) ? 'domain' : 'batch'}: how far the busiest expert is above the mean, layer by layer, and their mean</text>`,
  ];
  for (let tick = 0; tick <= scale + step / 2; tick += step)
    lines.push(
      `<line class="rule" x1="${left}" x2="${left + plot}" y1="${at(tick)}" y2="${at(tick)}"/>`,
      `<text class="small end" x="${left - 8}" y="${Number(at(tick)) + 4}">${Number(tick.toPrecision(3))}</text>`,
    );
  layers.forEach(({ batchViolation }, index) => {
    lines.push(
      `<path class="line" data-layer="${escaped(names[index] ?? '')}" data-violation="${shown(batchViolation)}" d="${path(batchViolation)}"/>`,
    );
  });
  lines.push(`<path class="mean" data-violation="${shown(mean)}" d="${path(mean)}"/>`);
  const last = mean.at(-1) ?? 0;
  if (!isNamed(columns))
    lines.push(
      `<text class="small" x="${left + plot + 8}" y="${Number(at(last)) + 4}">${last.toFixed(2)} at the end</text>`,
    );
  return lines.join('\n');
}

/** A round step of an axis that has two to five. */
function tickStep(most: number): number {
  const power = 10 ** Math.floor(Math.log10(most));
  return (
    [0.2, 0.5, 1, 2, 5].map((factor) => factor * power).find((step) => most / step <= 4) ?? most
  );
}

function rowHeight(experts: number): number {
  return Math.min(12, Math.max(112 / experts, 0.5));
}

function stripHeight({ load }: LayerSummary): number {
  return rowHeight(load.length) * load.length;
}

/** A layer: a row an expert, neighbours of one colour in one piece. */
function strip(layer: LayerSummary, columns: Columns, name: string, y: number): string {
  const rows = layer.load.map((loads, expert) => {
    const height = rowHeight(layer.load.length);
    const pieces: string[] = [];
    let from = 0;
    for (let c = 1; c <= loads.length; c += 1) {
      const kind = loadClass(loads[from]);
      if (c < loads.length && loadClass(loads[c]) === kind) continue;
      const [x, end] = [from, c].map((column) => left + (plot * column) / loads.length);
      pieces.push(
        `<rect class="c${kind}" x="${x.toFixed(2)}" y="${(y + expert * height).toFixed(2)}" width="${(end - x).toFixed(2)}" height="${height.toFixed(2)}"/>`,
      );
      from = c;
    }
    return `<g data-expert="${expert}" data-load="${shown(loads)}">${pieces.join('')}</g>`;
  });
  const height = stripHeight(layer);
  return [
    `<g data-layer="${escaped(name)}" data-violation="${layer.globalViolation.toFixed(4)}">`,
    ...rows,
    ...(isNamed(columns) ? cuts(columns.length, y, height) : []),
    `<rect class="frame" x="${left}" y="${y}" width="${plot}" height="${height}"/>`,
    `<text class="end" x="${left - 8}" y="${y + height / 2 + 4}">${escaped(name)}</text>`,
    `<text class="small" x="${left + plot + 8}" y="${y + height / 2 - 3}">MaxVio ${layer.globalViolation.toFixed(3)}</text>`,
    `<text class="small" x="${left + plot + 8}" y="${y + height / 2 + 11}">over ${isNamed(columns) ? 'all' : 'the run'}</text>`,
    '</g>',
  ].join('\n');
}

/** Lines that keep the columns of domains apart. */
function cuts(columns: number, y: number, height: number): string[] {
  return Array.from({ length: columns - 1 }, (_, c) => {
    const x = (left + (plot * (c + 1)) / columns).toFixed(2);
    return `<line class="cut" x1="${x}" x2="${x}" y1="${y}" y2="${y + height}"/>`;
  });
}

function isNamed(columns: Columns): columns is DomainColumn[] {
  return columns.some((column) => 'name' in column);
}

function axis(columns: Columns, y: number): string {
  const text = (share: number, anchor: string, words: string): string =>
    `<text class="small${anchor}" x="${(left + plot * share).toFixed(1)}" y="${y}">${escaped(words)}</text>`;
  if (isNamed(columns)) {
    // About six units a letter.
    const most = Math.max(1, Math.floor(plot / columns.length / 6));
    return columns
      .map(({ name }, c) => {
        const fits = name.length <= most ? name : `…${name.slice(1 - most)}`;
        return text((c + 0.5) / columns.length, ' middle', fits);
      })
      .join('\n');
  }
  const steps = columns as StepColumn[];
  const marks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const column = steps[Math.min(steps.length - 1, Math.floor(share * steps.length))];
    const anchor = share === 0 ? '' : share === 1 ? ' end' : ' middle';
    const words = share === 0 ? `step ${column.from}` : share === 1 ? column.to : column.from;
    return { words, line: text(share, anchor, String(words)) };
  });
  const repeats = (index: number): boolean =>
    index > 0 && String(marks[index - 1].words).replace('step ', '') === String(marks[index].words);
  return marks.flatMap(({ line }, index) => (repeats(index) ? [] : line)).join('\n');
}

function legend(y: number): string {
  const cell = 44;
  const boxes = Array.from(
    { length: borders.length + 1 },
    (_, index) =>
      `<rect class="c${index}" x="${left + index * cell}" y="${y}" width="${cell}" height="10"/>`,
  );
  const labels = borders.map(
    (border, index) =>
      `<text class="small middle" x="${left + (index + 1) * cell}" y="${y + 22}">${border}</text>`,
  );
  return [
    ...boxes,
    ...labels,
    `<text class="small" x="${left + (borders.length + 1) * cell + 10}" y="${y + 9}">load over the mean of the layer</text>`,
  ].join('\n');
}

/** Four digits behind the point: what a picture can show, and more. */
function shown(values: readonly number[]): string {
  return values.map((value) => Number(value.toFixed(4))).join(' ');
}

function escaped(text: string): string {
  return text
    .replaceAll(/\p{Cc}/gu, ' ')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
