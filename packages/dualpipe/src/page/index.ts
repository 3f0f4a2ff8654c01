// The door of `@baleen/dualpipe/page`: an interactive page about schedules as one HTML file. The page asks no server: this
// package's own generators, validator and simulator are in it, and run again whenever a control changes.
import type { Costs } from '../costs';
import type { Semantics } from '../engine';
import { checkFinite, scheduleError } from '../errors';
import { escapeMarkup } from '../format';
import { type Method, methods } from '../methods/index';
import type { PhaseTimes } from '../phases';
import type { Link } from '../simulate';
import { faultOf, fieldOf } from './fields';
import { bodyMarkup } from './markup';
import type { OwnSchedule } from './row-model';
import { mostRows, ownRow, type PageState, phaseValues, standardState } from './state';
import { styleSheet } from './styles';

export type { OwnSchedule } from './row-model';

/** What a page shows when it is opened; everything but a schedule of one's own can be changed there. */
export interface PageOptions {
  /** Methods, a row each (default DualPipe and 1F1B; none where there is an `own` schedule). */
  methods?: readonly Method[];
  /** Ranks (default 8). */
  ranks?: number;
  /** Micro-batches of a step (default 20). */
  microBatches?: number;
  /** Stages a rank holds in `interleaved` (default 2). */
  stagesPerRank?: number;
  /** Times of a rank's share of the model, as four numbers or phase by phase (default 1 each). */
  times?: Costs | PhaseTimes;
  /** Links between ranks (default: messages take no time). */
  link?: Link;
  /** How messages hold ranks up (default `buffered`). */
  semantics?: Semantics;
  /** A schedule of one's own, or one that was measured: the first row. */
  own?: OwnSchedule;
  /** Heading. */
  title?: string;
}

/** The page's script, which the build puts in. */
declare const BALEEN_PAGE_SCRIPT: string;

/**
 * Makes a page on which schedules can be stepped through, changed and compared.
 * @param options - see {@link PageOptions}
 * @returns an HTML document that loads nothing else
 * @throws ERR_BALEEN_SCHEDULE_PAGE for a number that the page does not take; ERR_BALEEN_SCHEDULE_METHOD for an unknown method
 *
 * @example
 * ```ts
 * import { schedulePage } from '@baleen/dualpipe/page';
 * const html = schedulePage({ methods: ['dualpipe', 'zb1p'], ranks: 4, microBatches: 10 });
 * console.log(html.startsWith('<!doctype html>'), /(src|href)="http/.test(html)); // => true false
 * ```
 */
export function schedulePage(options: PageOptions = {}): string {
  const { own, title = 'Pipeline schedules' } = options;
  const data = { state: stateOf(options), own: own ?? null };
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<link rel="icon" href="data:,">',
    `<title>${escapeMarkup(title)}</title>`,
    `<style>${styleSheet()}</style>`,
    '</head>',
    `<body>${bodyMarkup(title)}`,
    `<script type="application/json" id="data">${JSON.stringify(data).replaceAll('<', '\\u003c')}</script>`,
    `<script>${BALEEN_PAGE_SCRIPT}</script>`,
    '</body>',
    '</html>',
    '',
  ].join('\n');
}

/** The state that options describe. */
function stateOf(options: PageOptions): PageState {
  const standard = standardState();
  const { own, times, link, semantics = standard.semantics } = options;
  const asked = options.methods ?? (own ? [] : (standard.rows as Method[]));
  for (const name of asked)
    if (!Object.hasOwn(methods, name))
      throw scheduleError(
        'METHOD',
        'methods',
        `there is no method ${name as string}`,
        `the methods are ${Object.keys(methods).join(', ')}`,
      );
  const rows = [...(own ? [ownRow] : []), ...asked];
  if (rows.length === 0 || rows.length > mostRows)
    throw scheduleError(
      'PAGE',
      'methods',
      `a page of ${rows.length} rows is not one of 1 to ${mostRows}`,
      `name 1 to ${mostRows} methods`,
    );
  const phased = times !== undefined && 'layers' in times;
  if (phased && times.processors)
    throw scheduleError(
      'PAGE',
      'times.processors',
      'the page does not share processors',
      'leave times.processors out, and scale the times of the phases',
    );
  const given: Record<string, number | undefined> = {
    ranks: options.ranks,
    'micro-batches': options.microBatches,
    'stages-per-rank': options.stagesPerRank,
    ...(phased ? phaseValues(times) : fourValues(times)),
    ...(link ? linkValues(link) : {}),
  };
  const values = { ...standard.values };
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const fault = faultOf(fieldOf(name), value);
    if (fault !== '')
      throw scheduleError('PAGE', name, `${name}: ${fault}`, 'give a number that the page takes');
    values[name] = value;
  }
  return { ...standard, rows, values, semantics, timing: phased ? 'phases' : 'four' };
}

function fourValues(times: Costs | undefined): Record<string, number | undefined> {
  if (!times) return {};
  const { forward, inputGrad, weightGrad, overlap } = times;
  return { forward, 'input-grad': inputGrad, 'weight-grad': weightGrad, overlap };
}

/** The page has the time that a message takes, not its bytes. */
function linkValues({ bytes, bandwidth, latency }: Link): Record<string, number> {
  checkFinite('LINK', { 'link.bytes': bytes, 'link.latency': latency });
  return { sending: bytes > 0 ? bytes / bandwidth : 0, latency };
}
