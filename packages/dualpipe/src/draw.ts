// A schedule in time as an SVG picture: a row for each rank, a box for each computation with its micro-batch in it. A full
// backward is split where its gradient of the weights begins; in an overlapped pair the forward stands above the backward.
// Where phases are known, a row has them on two lanes instead, compute above communication.
import { type Box, boxesOf, phaseBoxes, type Shade, shadesOf, turnOf } from './boxes';
import { escapeMarkup as escape, figure, percent, tickStep } from './format';
import { fills, inks, parts } from './palette';
import { describeAction } from './schedule';
import type { Simulation } from './simulate';
import type { Timeline } from './timeline';

/** How to draw. */
export interface DrawOptions {
  /** Colours: for a light or a dark background, or whichever the viewer prefers (default). */
  theme?: 'light' | 'dark' | 'auto';
  /** Width in pixels (default: enough for the numbers in the boxes, at most 6000). */
  width?: number;
  /** Unit of the times, shown at the axis. */
  unit?: string;
}

const row = 26;
const gap = 8;
const left = 64;
const right = 128;
const top = 62;

/**
 * Draws a schedule in time.
 * @param timeline - simulated or measured
 * @param options - see {@link DrawOptions}
 * @returns an SVG document; hovering over a box names its computation
 *
 * @example
 * ```ts
 * import { drawSchedule, generateSchedule, simulate } from '@baleen/dualpipe';
 * const schedule = generateSchedule('1f1b', { ranks: 4, microBatches: 8 });
 * const svg = drawSchedule(simulate(schedule, { times: { forward: 1, inputGrad: 1, weightGrad: 1 } }));
 * console.log(svg.startsWith('<svg'), svg.includes('forward of stage 3, micro-batch 7')); // => true true
 * ```
 */
export function drawSchedule(timeline: Timeline | Simulation, options: DrawOptions = {}): string {
  const { schedule, total, ranks, bubbleShare } = timeline;
  const phases = 'phases' in timeline ? timeline.phases : null;
  const { theme = 'auto', unit = '' } = options;
  const width = Math.max(480, options.width ?? comfortable(timeline, phases ? 3 : 1));
  const scale = (width - left - right) / (total || 1);
  const x = (time: number): number => left + time * scale;
  const rowHeight = phases ? 2 * row - 12 : row;
  const pitch = rowHeight + gap;
  const height = top + ranks.length * pitch + 34;
  const shades = shadesOf(schedule);
  const turn = turnOf('costs' in timeline ? timeline.costs : null);
  const body: string[] = [];
  ranks.forEach(({ computations, idle }, rank) => {
    const y = top + rank * pitch;
    const share = total === 0 ? 0 : idle / total;
    body.push(
      `<rect class="track" x="${left}" y="${y}" width="${short(total * scale)}" height="${rowHeight}"/>`,
      text(left - 10, y + rowHeight / 2 + 4, `rank ${rank}`, 'label end'),
      text(x(total) + 10, y + rowHeight / 2 + 4, `idle ${figure(idle)}`, 'label'),
      text(width - 8, y + rowHeight / 2 + 4, percent(share), 'faint end'),
    );
    for (const span of computations) {
      const boxes = phases ? phaseBoxes(span, phases[span.action.kind].spans) : boxesOf(span, turn);
      body.push(
        `<g><title>${escape(describeAction(span.action))}, ${figure(span.start)} to ${figure(span.end)}</title>`,
        ...boxes.map((box) =>
          drawBox(box, { x, y, height: rowHeight, shade: shades[rank].get(box.stage) ?? 0 }),
        ),
        '</g>',
      );
    }
  });
  const sizes = `${schedule.ranks} ranks, ${schedule.stages} stages, ${schedule.microBatches} micro-batches`;
  const time = `total ${figure(total)}${unit && ` ${unit}`}, bubble ${percent(bubbleShare)}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(`${schedule.method}, ${sizes}, ${time}`)}">`,
    `<style>${styles(theme)}</style>`,
    `<rect class="paper" width="${width}" height="${height}"/>`,
    text(left, 24, schedule.method, 'title'),
    text(left + 9 * schedule.method.length + 18, 24, `${sizes}; ${time}`, 'label'),
    ...legend(phases !== null),
    ...body,
    ...axis({ x, total, width, y: top + ranks.length * pitch }, unit),
    '</svg>',
    '',
  ].join('\n');
}

/** Where a row is, and the shade of a box in it. */
interface Track {
  x: (time: number) => number;
  y: number;
  height: number;
  shade: Shade;
}

function drawBox(box: Box, { x, y, height, shade }: Track): string {
  const from = x(box.start);
  const wide = x(box.end) - from;
  const [top, high] = [y + box.top * height, box.height * height];
  const rect = `<rect class="${box.part}${shade}" x="${short(from)}" y="${short(top)}" width="${short(wide)}" height="${short(high)}"/>`;
  const label = box.continued ? '' : String(box.microBatch);
  if (label === '' || wide < 6.4 * label.length + 2) return rect;
  return `${rect}${text(from + wide / 2, top + high / 2 + 3.6, label, 'number')}`;
}

/** Wide enough for two digits in so many boxes of a forward. */
function comfortable({ total, ranks }: Timeline, boxes: number): number {
  const widths = ranks.flatMap(({ computations }) =>
    computations.flatMap(({ action: { kind }, start, end }) =>
      kind === 'forward' && end > start ? [end - start] : [],
    ),
  );
  const shortest = widths.reduce((least, each) => Math.min(least, each), Infinity);
  const needed = Number.isFinite(shortest) ? (17 * boxes * total) / shortest : 0;
  return Math.round(Math.min(6000, Math.max(900, needed + left + right)));
}

function legend(phases: boolean): string[] {
  const names = { forward: 'forward', inputGrad: 'input gradient', weightGrad: 'weight gradient' };
  let at = left;
  const entries = parts.flatMap((part) => {
    const entry = [
      `<rect class="${part}0" x="${at}" y="36" width="12" height="12"/>`,
      `<rect class="${part}1" x="${at + 12}" y="36" width="12" height="12"/>`,
      text(at + 30, 46, names[part], 'label'),
    ];
    at += 44 + 7 * names[part].length;
    return entry;
  });
  const note = phases
    ? 'compute above, communication below; darker: the rank’s second stage'
    : 'darker: the rank’s second stage';
  return [...entries, text(at + 6, 46, note, 'faint')];
}

function axis(
  { x, total, width, y }: { x: (time: number) => number; total: number; width: number; y: number },
  unit: string,
): string[] {
  const step = tickStep(total, width - left - right, 90);
  const lines: string[] = [];
  for (let i = 0; i * step <= total * (1 + 1e-9); i += 1) {
    const at = short(x(i * step));
    lines.push(
      `<line class="tick" x1="${at}" x2="${at}" y1="${y}" y2="${y + 5}"/>`,
      text(x(i * step), y + 18, figure(i * step), 'faint middle'),
    );
  }
  return unit === '' ? lines : [...lines, text(width - 8, y + 18, unit, 'faint end')];
}

function styles(theme: 'light' | 'dark' | 'auto'): string {
  const of = (name: 'light' | 'dark'): string => {
    const { paper, text: own, faint, line, ink } = inks[name];
    return [
      `.paper{fill:${paper}}.track{fill:${line};fill-opacity:.45}.tick{stroke:${faint}}`,
      `.title{fill:${own};font-size:16px;font-weight:600}.label{fill:${own}}.faint{fill:${faint}}`,
      `.number{fill:${ink};font-size:10.5px;text-anchor:middle}`,
      ...parts.flatMap((part) =>
        fills[name][part].map(
          (fill, shade) => `.${part}${shade}{fill:${fill};stroke:${paper};stroke-width:.8}`,
        ),
      ),
    ].join('');
  };
  const shared = `text{font-family:ui-sans-serif,system-ui,sans-serif;font-size:12px}.end{text-anchor:end}.middle{text-anchor:middle}`;
  if (theme !== 'auto') return shared + of(theme);
  return `${shared}${of('light')}@media (prefers-color-scheme:dark){${of('dark')}}`;
}

function text(x: number, y: number, content: string, style: string): string {
  return `<text class="${style}" x="${short(x)}" y="${short(y)}">${escape(content)}</text>`;
}

const short = (value: number): string => String(Math.round(value * 100) / 100);
