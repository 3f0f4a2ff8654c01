// The methods by name: what each asks of its sizes, and how its lists are made.
import { scheduleError } from '../errors';
import { type ComputeLists, withMessages } from '../messages';
import { type Action, describeAction, type Schedule } from '../schedule';
import { dualPipe, dualPipeV } from './bidirectional';
import { type FullSizes, gpipe, interleaved, oneForwardOneBackward, zb1p } from './single';
import { type Constraint, checkConstraint, type MethodSizes } from './sizes';

/** Methods that schedules can be made by, in the order they were published. */
export type Method = 'gpipe' | '1f1b' | 'interleaved' | 'zb1p' | 'dualpipe' | 'dualpipev';

/** What is known of a method. */
export interface MethodFacts {
  /** In a sentence. */
  description: string;
  /** Where it was published. */
  source: string;
  /** Stages that a rank holds. */
  stagesPerRank: number;
  /** Copies of each parameter. */
  copies: 1 | 2;
}

interface MethodEntry extends MethodFacts {
  constraints: (sizes: FullSizes) => Constraint[];
  make: (sizes: FullSizes) => ComputeLists;
}

const entries: Readonly<Record<Method, MethodEntry>> = {
  gpipe: {
    description: 'all forwards, then all backwards',
    source: 'arXiv 1811.06965',
    stagesPerRank: 1,
    copies: 1,
    constraints: () => [],
    make: gpipe,
  },
  '1f1b': {
    description: 'one forward and one backward in turn, so that few activations are held',
    source: 'arXiv 2006.09503',
    stagesPerRank: 1,
    copies: 1,
    constraints: () => [],
    make: oneForwardOneBackward,
  },
  interleaved: {
    description: '1F1B with several smaller stages a rank',
    source: 'arXiv 2104.04473, §2.2',
    stagesPerRank: 2,
    copies: 1,
    constraints: ({ ranks }) => [
      { size: 'stagesPerRank', text: '2 or more', least: 2, step: 1 },
      {
        size: 'microBatches',
        text: `a multiple of ranks (${ranks})`,
        least: ranks,
        step: ranks,
      },
    ],
    make: interleaved,
  },
  zb1p: {
    description: '1F1B whose gradients of weights wait until the rank would stand still',
    source: 'arXiv 2401.10241 (ZB-H1)',
    stagesPerRank: 1,
    copies: 1,
    constraints: () => [],
    make: zb1p,
  },
  dualpipe: {
    description: 'two pipelines towards each other, forwards and backwards overlapped',
    source: 'arXiv 2412.19437, §3.2.1',
    stagesPerRank: 2,
    copies: 2,
    constraints: ({ ranks }) => [
      { size: 'ranks', text: 'an even number', least: 2, step: 2 },
      {
        size: 'microBatches',
        text: `an even number from 2 · ranks (${2 * ranks})`,
        least: 2 * ranks,
        step: 2,
      },
    ],
    make: dualPipe,
  },
  dualpipev: {
    description: 'DualPipe folded into a V, with each parameter once',
    source: 'github.com/deepseek-ai/DualPipe',
    stagesPerRank: 2,
    copies: 1,
    constraints: ({ ranks }) => [
      {
        size: 'microBatches',
        text: `a number from 2 · ranks (${2 * ranks})`,
        least: 2 * ranks,
        step: 1,
      },
    ],
    make: dualPipeV,
  },
};

/** All methods, by name. */
export const methods: Readonly<Record<Method, MethodFacts>> = entries;

/**
 * Refuses sizes that a method does not take, without making the schedule.
 * @param method - by name
 * @param sizes - see {@link MethodSizes}
 * @throws ERR_BALEEN_SCHEDULE_METHOD, ERR_BALEEN_SCHEDULE_SIZES as {@link generateSchedule}
 */
export function checkSizes(method: Method, sizes: MethodSizes): void {
  fullSizes(method, sizes);
}

/**
 * Makes a schedule.
 * @param method - by name
 * @param sizes - see {@link MethodSizes}
 * @returns the schedule, with its messages and the bound on activations that the method promises
 * @throws ERR_BALEEN_SCHEDULE_METHOD for an unknown name; ERR_BALEEN_SCHEDULE_SIZES where the method does not allow a size,
 *   with the nearest that it does
 *
 * @example
 * ```ts
 * import { generateSchedule } from '@baleen/dualpipe';
 * const { actions } = generateSchedule('1f1b', { ranks: 2, microBatches: 2 });
 * console.log(actions[0].map(({ kind }) => kind).join(' '));
 * // => forward send forward send receive fullBackward receive fullBackward
 * ```
 */
export function generateSchedule(method: Method, sizes: MethodSizes): Schedule {
  const full = fullSizes(method, sizes);
  return withMessages(entries[method].make(full));
}

/**
 * Whether a schedule does what its method makes for its sizes, action by action.
 * @param schedule - a valid one
 */
export function isGenerated(schedule: Schedule): boolean {
  const { ranks, stages, microBatches, actions } = schedule;
  const method = schedule.method as Method;
  if (!Object.hasOwn(entries, method)) return false;
  const stagesPerRank = method === 'interleaved' ? { stagesPerRank: stages / ranks } : {};
  let usual: Schedule;
  try {
    usual = generateSchedule(method, { ranks, microBatches, ...stagesPerRank });
  } catch {
    // Sizes that the method does not take.
    return false;
  }
  return (
    actions.length === ranks &&
    usual.actions.every(
      (list, rank) =>
        list.length === actions[rank].length &&
        list.every((action, position) => equalActions(action, actions[rank][position])),
    )
  );
}

function equalActions(a: Action, b: Action): boolean {
  // Their words have all that they are made of.
  return describeAction(a) === describeAction(b);
}

/** Sizes with what is left out filled in, checked. */
function fullSizes(method: Method, sizes: MethodSizes): FullSizes {
  if (!Object.hasOwn(entries, method))
    throw scheduleError(
      'METHOD',
      'method',
      `there is no method ${method as string}`,
      `the methods are ${Object.keys(entries).join(', ')}`,
    );
  const entry = entries[method];
  const { ranks, microBatches, stagesPerRank = entry.stagesPerRank } = sizes;
  checkConstraint(method, ranks, { size: 'ranks', text: '1 or more', least: 1, step: 1 });
  checkConstraint(method, microBatches, {
    size: 'microBatches',
    text: '1 or more',
    least: 1,
    step: 1,
  });
  if (method !== 'interleaved' && stagesPerRank !== entry.stagesPerRank)
    throw scheduleError(
      'SIZES',
      'stagesPerRank',
      `stagesPerRank (${stagesPerRank}) is not ${entry.stagesPerRank}, which ${method} has`,
      'leave it out, or take interleaved',
    );
  const full = { ranks, microBatches, stagesPerRank };
  for (const constraint of entry.constraints(full))
    checkConstraint(method, full[constraint.size], constraint);
  return full;
}
