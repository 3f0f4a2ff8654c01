// The executor: walks one rank's list of a schedule over the stages that the rank holds and a link to the other ranks.
//
// Messages are as under `buffered` (see engine.ts): a send is begun where it stands on the list and the rank goes on, a receive
// likewise, and a computation waits for what it needs and for nothing else. So whatever moves data beside JavaScript, as the
// communicators of `@baleen/comm` do, moves it while stages compute.
import { scheduleError } from './errors';
import { offending, type Where } from './lists';
import type { MessageLink } from './message-link';
import {
  type Action,
  type Cell,
  type Compute,
  isMessage,
  type Message,
  type Part,
  Places,
  type Schedule,
} from './schedule';
import type { Handle, Stage } from './stage';
import type { ComputeSpan } from './timeline';
import { validateSchedule } from './validate';
import { goBack, goBothWays, goForward, goThroughWeights } from './ways';

/** What a rank runs a schedule with. */
export interface ExecuteOptions<T> {
  /** The rank's stages, by their number in the schedule. Where a stage lies on several ranks each has its own copy. */
  stages: ReadonlyMap<number, Stage<T>>;
  /** To the other ranks; left out where the schedule has no messages. */
  link?: MessageLink<T>;
}

/** A message as one of its ranks saw it. */
export interface MessageSpan {
  /** The send or the receive. */
  message: Message;
  /** When it was begun. */
  start: number;
  /** When this rank saw that it had ended: later than it did, where the rank was computing. */
  end: number;
}

/** What a rank did, in milliseconds since 1970: the same clock on all ranks of a machine. */
export interface Execution {
  /** Which rank. */
  rank: number;
  /** Computations, in order; what a computation waits for before it begins is not part of it. */
  computations: ComputeSpan[];
  /** Sends and receives, in order. */
  messages: MessageSpan[];
  /** Time within computations in which the rank waited for the communication of their phases. */
  exposed: number;
}

/**
 * Runs one rank's part of a schedule. All ranks of the schedule call it, each with its own stages.
 *
 * The micro-batches' results are the same bits whatever the schedule: each goes through the same phases. Gradients of weights
 * are added in the order in which the schedule has them, and where a stage lies on several ranks each has those of its own
 * micro-batches; {@link ReplicaSums} adds them up.
 * @param schedule - the same on every rank; validated each time, which takes a hundredth of a second at 16 ranks and 240
 *   micro-batches
 * @param rank - this rank
 * @param options - see {@link ExecuteOptions}
 * @returns what was done when; {@link measuredTimeline} puts the ranks' together
 * @throws ERR_BALEEN_SCHEDULE_… of {@link validateSchedule}; ERR_BALEEN_SCHEDULE_STAGES where a stage or the link is missing;
 *   what a stage or the link throws, as `cause` of an error that names the first action that failed by its path, and has the
 *   code of its cause or else ERR_BALEEN_SCHEDULE_FAILED
 *
 * @example
 * ```ts
 * import { execute, generateSchedule, type Stage } from '@baleen/dualpipe';
 * // y = w · x and the loss y² / 2, on one rank
 * let [w, gradient] = [3, 0];
 * const x = [1, 2];
 * const stage: Stage<number> = [{
 *   kind: 'compute',
 *   forward: () => null, // the last stage puts nothing out
 *   inputGrad: () => null,
 *   weightGrad: (m) => { gradient += w * x[m] * x[m]; },
 * }];
 * const schedule = generateSchedule('zb1p', { ranks: 1, microBatches: 2 });
 * const { computations } = await execute(schedule, 0, { stages: new Map([[0, stage]]) });
 * console.log(gradient, computations.length); // => 15 6
 * ```
 */
export async function execute<T>(
  schedule: Schedule,
  rank: number,
  options: ExecuteOptions<T>,
): Promise<Execution> {
  // Each time: its lists may have changed since, and a proof takes far less than a step.
  validateSchedule(schedule, { semantics: 'buffered' });
  return new Walk(schedule, rank, options).run();
}

/** Milliseconds since 1970, in fractions. */
const now = (): number => performance.timeOrigin + performance.now();

/** A message under way. */
interface Underway<T> {
  position: number;
  handle: Handle<T>;
  ended: Promise<void>;
}

/** One rank's walk along its list. */
class Walk<T> {
  private readonly list: readonly Action[];
  private readonly link: MessageLink<T> | undefined;
  private readonly stages: readonly Stage<T>[];
  private readonly places: Places;
  private readonly record: Execution;
  /** Results that wait for their stage on this rank or for their send, by number of the message. */
  private readonly values = new Map<number, T>();
  private readonly arriving = new Map<number, Underway<T>>();
  private readonly leaving: Underway<void>[] = [];
  /** The message that failed first, while something else went on. */
  private failure: { position: number; error: unknown } | null = null;
  private position = 0;

  constructor(
    private readonly schedule: Schedule,
    private readonly rank: number,
    { stages, link }: ExecuteOptions<T>,
  ) {
    checkRank(schedule, rank);
    this.list = schedule.actions[rank];
    const first = this.list.findIndex(isMessage);
    if (first >= 0 && !link)
      throw offending(
        'STAGES',
        [rank, first, this.list[first]],
        'has no link to go over',
        'give a link, such as arrayLink',
      );
    this.link = link;
    this.stages = stagesOf(schedule, rank, stages);
    this.places = new Places(schedule);
    this.record = { rank, computations: [], messages: [], exposed: 0 };
  }

  async run(): Promise<Execution> {
    try {
      for (const [position, action] of this.list.entries()) {
        this.position = position;
        this.stopIfFailed();
        if (!isMessage(action)) await this.compute(action);
        else if (this.link) this.message(action, this.link);
      }
      for (const { position, ended } of this.leaving) {
        this.position = position;
        await ended;
        this.stopIfFailed();
      }
    } catch (error) {
      throw failed([this.rank, this.position, this.list[this.position]], error);
    }
    return this.record;
  }

  /** Begins a message; the walk goes on. */
  private message(message: Message, link: MessageLink<T>): void {
    const id = this.places.ofMessage(message);
    if (message.kind === 'receive') {
      this.arriving.set(id, this.follow(message, link.receive(message)));
      return;
    }
    const value = this.values.get(id) as T;
    this.values.delete(id);
    this.leaving.push(this.follow(message, link.send(message, value)));
  }

  /** Notes when a message ends, and how. */
  private follow<Arrives>(message: Message, handle: Handle<Arrives>): Underway<Arrives> {
    const { position } = this;
    const span: MessageSpan = { message, start: now(), end: NaN };
    this.record.messages.push(span);
    const ended = handle.done.then(
      () => {
        span.end = now();
      },
      (error: unknown) => {
        this.failure ??= { position, error };
      },
    );
    return { position, handle, ended };
  }

  private async compute(action: Compute): Promise<void> {
    const { position } = this;
    const run = await this.prepared(action);
    // Where it waited for a message.
    this.stopIfFailed();
    const start = now();
    await run();
    this.record.computations.push({ action, position, start, end: now() });
  }

  /** A computation with all that it needs. */
  private async prepared(action: Compute): Promise<() => Promise<void>> {
    const { wait } = this;
    if (action.kind === 'overlap') {
      const { forward, backward } = action;
      const value = await this.input('forward', forward);
      const grad = await this.input('inputGrad', backward);
      return async () => {
        const results = await goBothWays(
          { stage: this.stages[forward.stage], microBatch: forward.microBatch, value },
          { stage: this.stages[backward.stage], microBatch: backward.microBatch, value: grad },
          wait,
        );
        this.made('forward', forward, results.output);
        this.made('inputGrad', backward, results.inputGrad);
      };
    }
    const { kind, microBatch } = action;
    const stage = this.stages[action.stage];
    if (kind === 'weightGrad')
      return () => {
        goThroughWeights(stage, microBatch);
        return Promise.resolve();
      };
    const part = kind === 'forward' ? 'forward' : 'inputGrad';
    const value = await this.input(part, action);
    return async () => {
      const result =
        kind === 'forward'
          ? await goForward(stage, microBatch, value, wait)
          : await goBack(stage, microBatch, value, wait, kind === 'fullBackward');
      this.made(part, action, result);
    };
  }

  /** What a part needs from the stage before it, once it is there. */
  private async input(part: Part, cell: Cell): Promise<T | null> {
    const id = this.places.inputOf(part, cell);
    if (id < 0) return null;
    const message = this.arriving.get(id);
    if (!message) {
      const value = this.values.get(id) as T;
      this.values.delete(id);
      return value;
    }
    this.arriving.delete(id);
    await message.ended;
    this.stopIfFailed();
    return message.handle.wait();
  }

  /** Keeps a result for whoever needs it: another stage of this rank, or a send. */
  private made(part: 'forward' | 'inputGrad', cell: Cell, value: T | null): void {
    const backwards = part === 'inputGrad';
    if (cell.stage === (backwards ? 0 : this.schedule.stages - 1)) return;
    if (value === null)
      throw new Error(
        backwards ? 'the stage returned no gradient' : 'the stage returned no output',
      );
    const tensor = backwards ? 'gradient' : 'activation';
    this.values.set(this.places.ofMessage({ tensor, ...cell }), value);
  }

  private readonly wait = async (done: Promise<void>): Promise<void> => {
    const start = now();
    await done;
    this.record.exposed += now() - start;
  };

  private stopIfFailed(): void {
    const { failure } = this;
    if (!failure) return;
    this.position = failure.position;
    throw failure.error;
  }
}

function checkRank({ ranks }: Schedule, rank: number): void {
  if (!Number.isInteger(rank) || rank < 0 || rank >= ranks)
    throw scheduleError(
      'STAGES',
      'rank',
      `rank (${rank}) is not in the schedule`,
      `ranks are 0 … ${ranks - 1}`,
    );
}

/** The rank's stages by number; those of others are empty. */
function stagesOf<T>(
  { stages: count, pipelines }: Schedule,
  rank: number,
  given: ReadonlyMap<number, Stage<T>>,
): Stage<T>[] {
  return Array.from({ length: count }, (_, stage) => {
    const own = given.get(stage);
    if (!own && pipelines.some(({ rankOfStage }) => rankOfStage[stage] === rank))
      throw scheduleError(
        'STAGES',
        `stages.get(${stage})`,
        `stages has no stage ${stage}, which lies on rank ${rank}`,
        'give every stage that the rank holds; replicasOf says which',
      );
    return own ?? [];
  });
}

/** The error of an action; it has the code of its cause where that is ours, so that it is still seen who is to blame. */
function failed(where: Where, cause: unknown): Error {
  const known = cause instanceof Error ? (cause as Error & Partial<Known>) : null;
  const text = known ? known.message : String(cause);
  const hint = known?.hint ?? 'see `cause`: what the stage or the link threw';
  const error = offending('FAILED', where, `failed: ${text}`, hint);
  if (known?.code?.startsWith('ERR_BALEEN_'))
    Object.assign(error, { code: known.code, ...(known.ranks && { ranks: known.ranks }) });
  return Object.assign(error, { cause });
}

/** What errors of Baleen have. */
interface Known {
  code: string;
  hint: string;
  ranks: readonly number[];
}
