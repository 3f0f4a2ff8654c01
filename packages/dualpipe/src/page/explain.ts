// Puts what a rank does at a moment into words: what it computes, from whom it has its input, what it sends and who waits for
// that; or, where it stands still, what it waits for.
import { figure } from '../format';
import type { PhaseSpan } from '../phases';
import { type Cell, describeAction, forEachPart, type Part } from '../schedule';
import type { Simulation } from '../simulate';
import type { ComputeSpan, Timeline } from '../timeline';
import type { Lookup, Place } from './lookup';

/** Words about a moment of a rank. */
export interface Explanation {
  /** The rank, what it does, and from when to when. */
  title: string;
  /** Paragraphs, each with what it is about. */
  paragraphs: Paragraph[];
}

/** Words about one thing. */
export interface Paragraph {
  /** What it is about. */
  about: string;
  /** Sentences. */
  text: string;
}

/**
 * Explains what a rank does at a moment.
 * @param lookup - of its schedule in time
 * @param rank - the rank
 * @param time - the moment
 * @returns words
 */
export function explain(lookup: Lookup, rank: number, time: number): Explanation {
  const place = lookup.running(rank, time);
  return place ? explainComputation(lookup, place, time) : explainIdle(lookup, rank, time);
}

const titles: Readonly<Record<ComputeSpan['action']['kind'], string>> = {
  forward: 'forward',
  inputGrad: 'input gradient',
  weightGrad: 'weight gradient',
  fullBackward: 'full backward: input gradient, then weight gradient',
  overlap: 'a forward and a full backward, interleaved',
};

function explainComputation(lookup: Lookup, place: Place, time: number): Explanation {
  const { rank, span } = place;
  const { action, start, end } = span;
  const paragraphs: Paragraph[] = [];
  // A full backward is one thing, of which the input's gradient has what comes and goes.
  const whole = action.kind === 'fullBackward' || action.kind === 'overlap';
  forEachPart(action, (part, cell) => {
    if (whole && part === 'weightGrad') return;
    const about = whole && part === 'inputGrad' ? 'Input and weight gradient' : partWords[part];
    const words = [comesFrom(lookup, rank, part, cell), goesTo(lookup, rank, part, cell)];
    const text = words.filter((each) => each !== '').join(' ');
    paragraphs.push({ about: `${about} of ${nameOf(cell)}`, text });
  });
  const before = lookup.at(rank, place.index - 1)?.span.end ?? 0;
  const stood =
    start - before > lookup.slack ? `It stood still for ${figure(start - before)} before. ` : '';
  paragraphs.push({ about: `Rank ${rank}`, text: stood + holds(lookup, rank, start) });
  const phase = phasesAt(lookup.timeline, place, time);
  if (phase !== '') paragraphs.push({ about: `At ${figure(time)}`, text: phase });
  return {
    title: `Rank ${rank}, ${figure(start)} to ${figure(end)}: ${titles[action.kind]}`,
    paragraphs,
  };
}

const partWords: Readonly<Record<Part, string>> = {
  forward: 'Forward',
  inputGrad: 'Input gradient',
  weightGrad: 'Weight gradient',
};

const nameOf = ({ stage, microBatch }: Cell): string => `stage ${stage}, micro-batch ${microBatch}`;

/** Where a part's input comes from. */
function comesFrom(lookup: Lookup, rank: number, part: Part, cell: Cell): string {
  const { stage, microBatch } = cell;
  if (part === 'weightGrad') {
    const earlier = lookup.computation('inputGrad', cell);
    const since = earlier ? `Its operands were kept since ${figure(earlier.span.end)}. ` : '';
    return `${since}Nobody waits for its result.`;
  }
  const forward = part === 'forward';
  const source = stage + (forward ? -1 : 1);
  if (source < 0) return 'The first stage: its input is the micro-batch itself.';
  if (source >= lookup.places.stages) return 'The last stage: its gradient begins at the loss.';
  const tensor = tensorOf(part);
  const transfer = lookup.transfer({ tensor, stage: source, microBatch });
  if (transfer)
    return `It needs the ${tensor} of stage ${source}, which came from rank ${transfer.from} at ${figure(transfer.end)}.`;
  const made = lookup.computation(part, { stage: source, microBatch });
  const when = made ? ` at ${figure(made.span.end)}` : '';
  return `It needs the ${tensor} of stage ${source}, which rank ${rank} itself made${when}.`;
}

/** Where a part's result goes. */
function goesTo(lookup: Lookup, rank: number, part: Part, { stage, microBatch }: Cell): string {
  if (part === 'weightGrad') return '';
  const next = stage + (part === 'forward' ? 1 : -1);
  if (next < 0) return 'The first stage: no gradient goes on.';
  if (next >= lookup.places.stages) {
    const back = lookup.computation('inputGrad', { stage, microBatch });
    return back ? `The loss follows; its way back begins here at ${figure(back.span.start)}.` : '';
  }
  const tensor = tensorOf(part);
  const user = lookup.computation(part, { stage: next, microBatch });
  const use = user ? ` at ${figure(user.span.start)}` : '';
  const transfer = lookup.transfer({ tensor, stage, microBatch });
  return transfer
    ? `It sends its ${tensor} to rank ${transfer.to}, which goes on with stage ${next}${use}.`
    : `Rank ${rank} itself goes on with stage ${next}${use}: nothing is sent.`;
}

const tensorOf = (part: Part): 'activation' | 'gradient' =>
  part === 'forward' ? 'activation' : 'gradient';

function holds(lookup: Lookup, rank: number, time: number): string {
  const { inFlight, waiting } = lookup.held(rank, time);
  const peak = lookup.timeline.ranks[rank].peakInFlight;
  const later = waiting > 0 ? `, and ${counted(waiting, 'weight gradient')} waiting` : '';
  return `It holds ${counted(inFlight, 'activation')} of at most ${peak}${later}.`;
}

const counted = (count: number, noun: string): string =>
  `${count} ${noun}${count === 1 ? '' : 's'}`;

/** Which phases of a computation go on at a moment. */
function phasesAt(timeline: Timeline | Simulation, { span }: Place, time: number): string {
  const phases = 'phases' in timeline ? timeline.phases : null;
  if (!phases) return '';
  const into = time - span.start;
  const running = phases[span.action.kind].spans.filter(
    ({ start, end }) => start <= into && into < end,
  );
  const name = ({ part, phase, layer }: PhaseSpan): string =>
    `${phase} of the ${partWords[part].toLowerCase()}, layer ${layer}`;
  const lane = (wanted: PhaseSpan['lane']): string =>
    running
      .filter((each) => each.lane === wanted)
      .map(name)
      .join(', ') || 'nothing';
  return `Computes ${lane('compute')}; communicates ${lane('communication')}.`;
}

function explainIdle(lookup: Lookup, rank: number, time: number): Explanation {
  const { total } = lookup.timeline;
  const before = lookup.last(rank, time)?.span.end ?? 0;
  const next = lookup.next(rank, time);
  const until = next ? next.span.start : total;
  const title = `Rank ${rank}, ${figure(before)} to ${figure(until)}: stands still for ${figure(until - before)}`;
  const own = { about: `Rank ${rank}`, text: holds(lookup, rank, time) };
  if (!next)
    return { title, paragraphs: [{ about: 'Done', text: 'It waits for the other ranks.' }, own] };
  const waits: string[] = [];
  forEachPart(next.span.action, (part, cell) => {
    const words = waitsFor(lookup, next, part, cell);
    if (words !== '') waits.push(words);
  });
  const about = `Next: ${describeAction(next.span.action)}`;
  return { title, paragraphs: [{ about, text: waits.join(' ') }, own] };
}

/** What a computation waited for, where that came at the moment it began. */
function waitsFor(lookup: Lookup, { rank, span }: Place, part: Part, cell: Cell): string {
  if (part === 'weightGrad') return '';
  const forward = part === 'forward';
  const source = cell.stage + (forward ? -1 : 1);
  if (source < 0 || source >= lookup.places.stages) return '';
  const { microBatch } = cell;
  const tensor = forward ? 'activation' : 'gradient';
  const transfer = lookup.transfer({ tensor, stage: source, microBatch });
  if (!transfer || transfer.end < span.start - lookup.slack) return '';
  const made = lookup.computation(part, { stage: source, microBatch });
  const until = made ? `, which computes it until ${figure(made.span.end)}` : '';
  return `Rank ${rank} waits for the ${tensor} of stage ${source}, micro-batch ${microBatch}, from rank ${transfer.from}${until}; it is there at ${figure(transfer.end)}.`;
}

/** Computations that a computation has its inputs from, and that use what it makes: for arrows. */
export function neighboursOf(lookup: Lookup, { span }: Place): { from: Place[]; to: Place[] } {
  const [from, to]: [Place[], Place[]] = [[], []];
  forEachPart(span.action, (part, { stage, microBatch }) => {
    if (part === 'weightGrad') return;
    const step = part === 'forward' ? 1 : -1;
    const source = lookup.computation(part, { stage: stage - step, microBatch });
    const user = lookup.computation(part, { stage: stage + step, microBatch });
    if (source) from.push(source);
    if (user) to.push(user);
  });
  return { from, to };
}
