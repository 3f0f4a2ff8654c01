// What a row comes to, in words and figures.
import { figure, percent } from '../format';
import type { MadeRow } from './row-model';

/** A method that a row may have. */
export interface RowChoice {
  /** Its name. */
  id: string;
  /** In words. */
  title: string;
}

/** What a row comes to: names and values. */
export function factsOf({ timeline, report, schedule }: MadeRow): [string, string][] {
  const { total, bubbleShare } = timeline;
  const exposed = 'exposed' in timeline ? Math.max(...timeline.exposed) : 0;
  const copies = schedule.pipelines.length;
  return [
    ['total', figure(total)],
    ['bubble', percent(bubbleShare)],
    ['held at most', heldWords(schedule, report.peakInFlight)],
    ['computations', whole(report.computations)],
    ['messages', whole(report.messages)],
    ...(copies > 1 ? [['parameters', `${copies} copies`] as [string, string]] : []),
    ...(exposed > 0 ? [['exposed communication', figure(exposed)] as [string, string]] : []),
    ['proven', 'every part once, no deadlock'],
  ];
}

/** The most that a rank holds; in ranks' shares of the model where a stage is not one. */
function heldWords(
  { ranks, stages }: MadeRow['schedule'],
  peakInFlight: readonly number[],
): string {
  const most = Math.max(...peakInFlight);
  return stages === ranks
    ? String(most)
    : `${most} stages, ${figure((most * ranks) / stages)} ranks’ shares`;
}

/** A whole number with its thousands apart. */
function whole(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A formula beside what was simulated. */
export interface FormWords {
  /** Whether they agree, in a sentence. */
  verdict: string;
  /** Whether they do. */
  agrees: boolean;
  /** The formula with its value, and what was simulated. */
  values: string;
  /** When the formula is exact, and whether that is so here. */
  condition: string;
}

/** Says whether a method's published formula and the simulation agree, and why. */
export function formWords({ form, timeline }: MadeRow): FormWords | null {
  if (!form) return null;
  const { bubble, formula, rank, simulated, equal, holds } = form;
  const idles = timeline.ranks.map(({ idle }) => idle);
  const alike = Math.max(...idles) - Math.min(...idles) <= 1e-9 * Math.max(1, timeline.total);
  const who = alike ? 'every rank' : `rank ${rank}`;
  const further = form.condition.startsWith('always')
    ? form.condition.replace('always', '')
    : `, ${form.condition}`;
  const usual = 'the lists are the method’s, messages are buffered and take no time';
  const because = holds
    ? `Exact, since ${usual}`
    : equal
      ? `It comes out right, though it need not where these do not all hold: ${usual}`
      : `It need not be exact where these do not all hold: ${usual}`;
  return {
    verdict: equal ? 'Formula and simulation agree.' : 'Formula and simulation differ.',
    agrees: equal,
    values: `Bubble ${formula} = ${figure(bubble)}, where B = Bᵢ + W; ${who} stands still for ${figure(simulated)}.`,
    condition: `${because}${further}.`,
  };
}
