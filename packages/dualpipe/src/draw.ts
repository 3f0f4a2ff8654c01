// A schedule in time as an SVG picture: a row for each rank, a box for each computation with its micro-batch in it. A full
// backward is split where its gradient of the weights begins; in an overlapped pair the forward stands above the backward.
// Where phases are known, a row has them on two lanes instead, compute above communication.
import { type Compute, describeAction, type Part, type Schedule } from './schedule';
import type { Simulation } from './simulate';
import type { ComputeSpan, Timeline } from './timeline';

/** How to draw. */
export interface DrawOptions {
  /** Colours: for a light or a dark background, or whichever the viewer prefers (default). */
  theme?: 'light' | 'dark' | 'auto';
  /** Width in pixels (default: enough for the numbers in the boxes, at most 6000). */
  width?: number;
  /** Unit of the times, shown at the axis. */
  unit?: string;
}

/** A lane of a rank: further stages have another shade. */
type Shade = 0 | 1;

const fills: Readonly<Record<'light' | 'dark', Readonly<Record<Part, readonly [string, string]>>>> =
  {
    light: {
      forward: ['#f6c86b', '#e79c3c'],
      inputGrad: ['#8fd0a8', '#4fae7a'],
      weightGrad: ['#a9c4ee', '#7a9fe0'],
    },
    dark: {
      forward: ['#b3771c', '#8f5b0e'],
      inputGrad: ['#368459', '#246646'],
      weightGrad: ['#4f74b8', '#3d5e9c'],
    },
  };
const inks = {
  light: { paper: '#ffffff', text: '#1c2430', faint: '#657184', line: '#d7dce4', ink: '#14181f' },
  dark: { paper: '#12161d', text: '#e6eaf0', faint: '#96a2b4', line: '#2b3340', ink: '#ffffff' },
} as const;

const parts = ['forward', 'inputGrad', 'weightGrad'] as const;
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
  const body: string[] = [];
  ranks.forEach(({ computations, idle }, rank) => {
    const y = top + rank * pitch;
    const percent = total === 0 ? 0 : (100 * idle) / total;
    body.push(
      `<rect class="track" x="${left}" y="${y}" width="${short(total * scale)}" height="${rowHeight}"/>`,
      text(left - 10, y + rowHeight / 2 + 4, `rank ${rank}`, 'label end'),
      text(x(total) + 10, y + rowHeight / 2 + 4, `idle ${figure(idle)}`, 'label'),
      text(width - 8, y + rowHeight / 2 + 4, `${percent.toFixed(1)} %`, 'faint end'),
    );
    for (const span of computations) {
      const boxes = phases
        ? phaseBoxes(span, phases[span.action.kind].spans, { y, height: rowHeight })
        : boxesOf(span, timeline, { y, height: rowHeight });
      body.push(
        `<g><title>${escape(describeAction(span.action))}, ${figure(span.start)} to ${figure(span.end)}</title>`,
        ...boxes.map((box) => drawBox(box, x, shades[rank].get(box.stage) ?? 0)),
        '</g>',
      );
    }
  });
  const sizes = `${schedule.ranks} ranks, ${schedule.stages} stages, ${schedule.microBatches} micro-batches`;
  const time = `total ${figure(total)}${unit && ` ${unit}`}, bubble ${(100 * bubbleShare).toFixed(1)} %`;
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

/** A box of one part of a computation. */
interface Box {
  part: Part;
  stage: number;
  start: number;
  end: number;
  y: number;
  height: number;
  label: string;
}

interface Track {
  y: number;
  height: number;
}

/** A computation's parts, side by side; those of a pair above each other. */
function boxesOf(span: ComputeSpan, timeline: Timeline | Simulation, { y, height }: Track): Box[] {
  const { action, start, end } = span;
  const weights = 'costs' in timeline ? timeline.costs : { inputGrad: 1, weightGrad: 1 };
  const share = weights.inputGrad / (weights.inputGrad + weights.weightGrad || 1);
  const backward = (
    { stage, microBatch }: { stage: number; microBatch: number },
    track: Track,
  ): Box[] => {
    const turn = start + (end - start) * share;
    const own = { stage, ...track };
    return [
      { part: 'inputGrad', ...own, start, end: turn, label: String(microBatch) },
      { part: 'weightGrad', ...own, start: turn, end, label: '' },
    ];
  };
  if (action.kind === 'overlap') {
    const half = height / 2;
    const { stage, microBatch } = action.forward;
    return [
      { part: 'forward', stage, start, end, y, height: half, label: String(microBatch) },
      ...backward(action.backward, { y: y + half, height: half }),
    ];
  }
  if (action.kind === 'fullBackward') return backward(action, { y, height });
  const { kind: part, stage, microBatch } = action;
  return [{ part, stage, start, end, y, height, label: String(microBatch) }];
}

/** A computation's phases on two lanes. */
function phaseBoxes(
  { action, start }: ComputeSpan,
  spans: readonly { lane: string; part: Part; start: number; end: number }[],
  { y, height }: Track,
): Box[] {
  const half = height / 2;
  return spans.map(({ lane, part, start: from, end: to }) => {
    const { stage, microBatch } = cellOf(action, part);
    return {
      part,
      stage,
      start: start + from,
      end: start + to,
      y: lane === 'compute' ? y : y + half,
      height: half,
      label: String(microBatch),
    };
  });
}

function cellOf(action: Compute, part: Part): { stage: number; microBatch: number } {
  if (action.kind !== 'overlap') return action;
  return part === 'forward' ? action.forward : action.backward;
}

function drawBox(box: Box, x: (time: number) => number, shade: Shade): string {
  const { part, y, height, label } = box;
  const from = x(box.start);
  const wide = x(box.end) - from;
  const rect = `<rect class="${part}${shade}" x="${short(from)}" y="${short(y)}" width="${short(wide)}" height="${short(height)}"/>`;
  if (label === '' || wide < 6.4 * label.length + 2) return rect;
  return `${rect}${text(from + wide / 2, y + height / 2 + 3.6, label, 'number')}`;
}

/** Of each rank, the shade of each of its stages. */
function shadesOf({ ranks, pipelines }: Schedule): Map<number, Shade>[] {
  return Array.from({ length: ranks }, (_, rank) => {
    const own = pipelines.flatMap(({ rankOfStage }) =>
      rankOfStage.flatMap((at, stage) => (at === rank ? [stage] : [])),
    );
    const stages = [...new Set(own)].sort((a, b) => a - b);
    return new Map(stages.map((stage, i) => [stage, (i % 2) as Shade]));
  });
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
  const wanted = Math.max(2, (width - left - right) / 90);
  const power = 10 ** Math.floor(Math.log10((total || 1) / wanted));
  const step = [1, 2, 5, 10].map((m) => m * power).find((m) => total / m <= wanted) ?? 10 * power;
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
const figure = (value: number): string => String(Number(value.toPrecision(4)));

function escape(content: string): string {
  return content
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
