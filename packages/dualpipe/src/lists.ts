// What may stand where on a rank's list: every action is on the rank that holds its stage, has what it needs before it, and
// is there once; nothing is missing.
import { scheduleError } from './errors';
import { misfit } from './parse';
import {
  type Action,
  type Cell,
  type Compute,
  describeAction,
  forEachPart,
  isMessage,
  type Message,
  type Part,
  type Places,
  type Schedule,
} from './schedule';

/** A look at each rank's list, in order. */
export class ListChecks {
  /** By cell: which parts are done. By message: whether it was received, and sent. */
  private readonly done: Readonly<Record<Part, Uint8Array>>;
  private readonly received: Uint8Array;
  private readonly sent: Uint8Array;
  /** What is looked at. */
  private rank = 0;
  private position = 0;
  private action!: Action;

  constructor(
    private readonly schedule: Schedule,
    private readonly places: Places,
  ) {
    const { cells } = places;
    this.done = {
      forward: new Uint8Array(cells),
      inputGrad: new Uint8Array(cells),
      weightGrad: new Uint8Array(cells),
    };
    this.received = new Uint8Array(2 * cells);
    this.sent = new Uint8Array(2 * cells);
  }

  check(): void {
    this.each((action) => {
      if (!isAction(action))
        throw misfit(`actions[${this.rank}][${this.position}]`, action, 'is no action', unparsed);
      if (isMessage(action)) this.message(action);
      else this.compute(action);
    });
    this.nothingMissing();
    this.each((action) => {
      if (!isMessage(action)) return;
      const other = action.kind === 'send' ? this.received : this.sent;
      if (other[this.places.ofMessage(action)] === 0)
        throw this.fault(
          'UNMATCHED',
          `has no ${action.kind === 'send' ? 'receive' : 'send'} on rank ${action.peer}`,
          'each message is sent once and received once',
        );
    });
  }

  private each(look: (action: Action) => void): void {
    this.schedule.actions.forEach((list, rank) => {
      this.rank = rank;
      list.forEach((action, position) => {
        this.position = position;
        this.action = action;
        look(action);
      });
    });
  }

  private fault(what: string, message: string, hint: string): Error {
    return offending(what, [this.rank, this.position, this.action], message, hint);
  }

  private compute(action: Compute): void {
    const { rank } = this;
    // Before any of its parts counts as done: an overlapped pair does both of its halves at once.
    forEachPart(action, (part, cell) => {
      this.inRange(cell);
      const id = this.places.of(cell);
      const own = this.places.rankOf[id];
      if (own !== rank)
        throw this.fault(
          'PLACE',
          `is on rank ${rank}, but stage ${cell.stage} lies on rank ${own} for micro-batch ${cell.microBatch}`,
          `move it to actions[${own}], or change the pipeline`,
        );
      if (this.done[part][id] === 1)
        throw this.fault(
          'REPEATED',
          `does a second time what was done before`,
          'do each part of each stage and micro-batch once',
        );
      this.needs(action, part, cell);
    });
    forEachPart(action, (part, cell) => {
      this.done[part][this.places.of(cell)] = 1;
    });
  }

  /** A computation has all that it needs before it on its own list, or in itself. */
  private needs(action: Compute, part: Part, cell: Cell): void {
    const { rank } = this;
    const id = this.places.of(cell);
    const name = `stage ${cell.stage}, micro-batch ${cell.microBatch}`;
    const missing = (what: string, hint: string): Error =>
      this.fault('ORDER', `comes before ${what}`, hint);
    if (part === 'inputGrad' && this.done.forward[id] === 0)
      throw missing(`the forward of ${name}`, 'do the forward first');
    if (part === 'weightGrad' && action.kind === 'weightGrad' && this.done.inputGrad[id] === 0)
      throw missing(`the input gradient of ${name}`, 'do the input gradient first');
    const input = this.places.inputOf(part, cell);
    if (input < 0) return;
    const source = cell.stage + (part === 'forward' ? -1 : 1);
    const from = this.places.rankOf[source * this.places.microBatches + cell.microBatch];
    const there =
      from === rank
        ? this.done[part][source * this.places.microBatches + cell.microBatch]
        : this.received[input];
    if (there === 1) return;
    const tensor = part === 'forward' ? 'activation' : 'gradient';
    throw missing(
      from === rank
        ? `the ${part === 'forward' ? 'forward' : 'input gradient'} of stage ${source}, micro-batch ${cell.microBatch}`
        : `the receive of the ${tensor} of stage ${source}, micro-batch ${cell.microBatch} from rank ${from}`,
      'put it later on the list, or what it needs earlier',
    );
  }

  private message(action: Message): void {
    const { rank } = this;
    this.inRange(action);
    const { tensor, stage, microBatch, kind } = action;
    const next = stage + (tensor === 'activation' ? 1 : -1);
    if (next < 0 || next >= this.places.stages)
      throw this.fault(
        'PLACE',
        `has no stage to go to`,
        tensor === 'activation'
          ? 'the last stage sends no activation'
          : 'the first stage sends no gradient',
      );
    const from = this.places.rankOf[this.places.of(action)];
    const to = this.places.rankOf[next * this.places.microBatches + microBatch];
    const [own, peer] = kind === 'send' ? [from, to] : [to, from];
    if (from === to || own !== rank || peer !== action.peer)
      throw this.fault(
        'PLACE',
        `is on rank ${rank}, but this tensor ${from === to ? `stays on rank ${from}` : `goes from rank ${from} to rank ${to}`}`,
        from === to ? 'leave it out' : `let rank ${from} send it and rank ${to} receive it`,
      );
    const id = this.places.ofMessage(action);
    const record = kind === 'send' ? this.sent : this.received;
    if (record[id] === 1)
      throw this.fault('REPEATED', 'is there a second time', 'send and receive each message once');
    record[id] = 1;
    const part = tensor === 'activation' ? 'forward' : 'inputGrad';
    if (kind === 'send' && this.done[part][this.places.of(action)] === 0)
      throw this.fault(
        'ORDER',
        `comes before what it sends is computed`,
        'send after the computation',
      );
  }

  private nothingMissing(): void {
    const { stages, microBatches, rankOf } = this.places;
    for (const part of ['forward', 'inputGrad', 'weightGrad'] as const) {
      const lost = this.done[part].indexOf(0);
      if (lost < 0) continue;
      const [stage, microBatch] = [Math.floor(lost / microBatches), lost % microBatches];
      const kind = part;
      throw scheduleError(
        'MISSING',
        `actions[${rankOf[lost]}]`,
        `actions[${rankOf[lost]}] has no ${describeAction({ kind, stage, microBatch })}`,
        `each of ${stages} stages goes forward and back once with each of ${microBatches} micro-batches`,
      );
    }
  }

  private inRange({ stage, microBatch }: Cell): void {
    const { stages, microBatches } = this.places;
    const inside = (value: number, count: number): boolean =>
      Number.isInteger(value) && value >= 0 && value < count;
    if (!inside(stage, stages) || !inside(microBatch, microBatches))
      throw this.fault(
        'PLACE',
        'is outside the schedule',
        `stages are 0 … ${stages - 1}, micro-batches 0 … ${microBatches - 1}`,
      );
  }
}

/** What is said of values that nobody parsed. */
export const unparsed = 'parseSchedule says what does not fit';

/** Whether a value has the parts of an action: types say so, and values of elsewhere need not. */
function isAction(value: Action | null | undefined): boolean {
  switch (value?.kind) {
    case 'forward':
    case 'inputGrad':
    case 'weightGrad':
    case 'fullBackward':
      return isCell(value);
    case 'overlap':
      return isCell(value.forward) && isCell(value.backward);
    case 'send':
    case 'receive':
      return (
        isCell(value) &&
        // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- see above
        (value.tensor === 'activation' || value.tensor === 'gradient') &&
        typeof value.peer === 'number'
      );
    default:
      return false;
  }
}

function isCell(value: Cell | null | undefined): boolean {
  return typeof value?.stage === 'number' && typeof value.microBatch === 'number';
}

/** Rank, position and action. */
export type Where = readonly [rank: number, position: number, action: Action];

/** An error about one action. */
export function offending(
  what: string,
  [rank, position, action]: Where,
  message: string,
  hint: string,
): Error {
  const path = `actions[${rank}][${position}]`;
  return scheduleError(what, path, `${path}, ${describeAction(action)}, ${message}`, hint);
}
