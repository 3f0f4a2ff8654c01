// What a schedule is: plain data. For each rank, the order of what it does, over (stage, micro-batch).
//
// A *stage* is a part of the model, counted in the order of its forward. A *pipeline* is one copy of the model cut over the
// ranks, and the micro-batches that run through it. Most methods have one pipeline. DualPipe has two that run towards each
// other (§3.2.1): stage s lies on rank s in one and on rank R − 1 − s in the other, so every rank holds stages r and
// R − 1 − r, and every stage has its parameters twice (`replicasOf`). A micro-batch belongs to one pipeline, so a stage and
// a micro-batch say where a computation runs.

/** A stage's work on one micro-batch. */
export interface Cell {
  /** Part of the model, from 0. */
  stage: number;
  /** Micro-batch, from 0. */
  microBatch: number;
}

/**
 * A computation of one kind. `inputGrad` is the gradient of the stage's input, which the stage before waits for;
 * `weightGrad` that of its parameters, for which nobody does, so it may come later; `fullBackward` is the one and then the
 * other, as one action.
 */
export interface PlainCompute extends Cell {
  /** What is computed. */
  kind: 'forward' | 'inputGrad' | 'weightGrad' | 'fullBackward';
}

/** A forward and a full backward of two micro-batches, interleaved so that each hides the other's communication (§3.2.1). */
export interface Overlap {
  /** An overlapped pair. */
  kind: 'overlap';
  /** What goes forward. */
  forward: Cell;
  /** What goes back: the gradients of its input and of its weights. */
  backward: Cell;
}

/** A computation. */
export type Compute = PlainCompute | Overlap;

/**
 * One end of a message between ranks. A message is named by what made it: the activation that `stage` put out for the stage
 * after it, or the gradient of `stage`'s input, for the stage before it. Sends and receives that follow each other directly
 * are one batch: they are posted together.
 */
export interface Message extends Cell {
  /** Which end. */
  kind: 'send' | 'receive';
  /** What is sent. */
  tensor: 'activation' | 'gradient';
  /** The rank at the other end. */
  peer: number;
}

/** One entry of a rank's list. */
export type Action = Compute | Message;

/** A copy of the model, cut over the ranks, with the micro-batches that run through it. */
export interface Pipeline {
  /** Rank of each stage. */
  rankOfStage: readonly number[];
  /** Its micro-batches, in the order they enter. */
  microBatches: readonly number[];
}

/** A pipeline schedule. */
export interface Schedule {
  /** Names this form of data. */
  format: 'baleen-schedule/1';
  /** How it was made: a method's name, or any other. */
  method: string;
  /** Ranks, R. */
  ranks: number;
  /** Stages of the model. */
  stages: number;
  /** Micro-batches of a step, over all pipelines. */
  microBatches: number;
  /** The copies of the model. */
  pipelines: readonly Pipeline[];
  /**
   * Activations, each of one stage and one micro-batch, that a rank may hold at most: from the forward to the end of the
   * gradient of the input. One bound a rank; left out where nobody promises one.
   */
  maxInFlight?: readonly number[];
  /** Of each rank, what it does, in order. */
  actions: readonly (readonly Action[])[];
}

/** An elementary computation: a full backward is two of them, an overlapped pair three. */
export type Part = 'forward' | 'inputGrad' | 'weightGrad';

/** The parts of each computation, in order. */
const partsOfKind: Readonly<Record<PlainCompute['kind'], readonly Part[]>> = {
  forward: ['forward'],
  inputGrad: ['inputGrad'],
  weightGrad: ['weightGrad'],
  fullBackward: ['inputGrad', 'weightGrad'],
};

/** Whether an action is one end of a message. */
export function isMessage(action: Action): action is Message {
  return action.kind === 'send' || action.kind === 'receive';
}

/** Calls a function with every part of a computation and its cell, in order. */
export function forEachPart(action: Compute, visit: (part: Part, cell: Cell) => void): void {
  if (action.kind === 'overlap') {
    visit('forward', action.forward);
    for (const part of partsOfKind.fullBackward) visit(part, action.backward);
  } else for (const part of partsOfKind[action.kind]) visit(part, action);
}

/**
 * An action in words, as errors name it.
 * @param action - any action
 * @returns such as `forward of stage 3, micro-batch 5`
 */
export function describeAction(action: Action): string {
  const cell = ({ stage, microBatch }: Cell): string => `stage ${stage}, micro-batch ${microBatch}`;
  switch (action.kind) {
    case 'overlap':
      return `overlap of the forward of ${cell(action.forward)} and the full backward of ${cell(action.backward)}`;
    case 'send':
      return `send of the ${action.tensor} of ${cell(action)} to rank ${action.peer}`;
    case 'receive':
      return `receive of the ${action.tensor} of ${cell(action)} from rank ${action.peer}`;
    default:
      return `${words[action.kind]} of ${cell(action)}`;
  }
}

const words: Readonly<Record<PlainCompute['kind'], string>> = {
  forward: 'forward',
  inputGrad: 'input gradient',
  weightGrad: 'weight gradient',
  fullBackward: 'full backward',
};

/**
 * The ranks that hold a stage's parameters. Where there are several, as in DualPipe, each computes gradients from its own
 * pipeline's micro-batches, and these must be added up over the ranks before the optimizer's step.
 * @param schedule - any schedule
 * @returns the ranks of each stage, ascending [stages]
 *
 * @example
 * ```ts
 * import { generateSchedule, replicasOf } from '@baleen/dualpipe';
 * const schedule = generateSchedule('dualpipe', { ranks: 4, microBatches: 8 });
 * console.log(JSON.stringify(replicasOf(schedule))); // => [[0,3],[1,2],[1,2],[0,3]]
 * ```
 */
export function replicasOf({ stages, pipelines }: Schedule): number[][] {
  return Array.from({ length: stages }, (_, stage) =>
    [...new Set(pipelines.map(({ rankOfStage }) => rankOfStage[stage]))].sort((a, b) => a - b),
  );
}

/** Where cells run, and numbers for them: stage · microBatches + microBatch. */
export class Places {
  /** Rank of each cell; −1 where no pipeline has the micro-batch. */
  readonly rankOf: Int32Array;
  /** Number of cells. */
  readonly cells: number;
  /** Stages. */
  readonly stages: number;
  /** Micro-batches. */
  readonly microBatches: number;

  constructor({ stages, microBatches, pipelines }: Omit<Schedule, 'actions'>) {
    this.stages = stages;
    this.microBatches = microBatches;
    this.cells = stages * microBatches;
    this.rankOf = new Int32Array(this.cells).fill(-1);
    for (const { rankOfStage, microBatches: own } of pipelines)
      for (const microBatch of own)
        rankOfStage.forEach((rank, stage) => {
          this.rankOf[stage * microBatches + microBatch] = rank;
        });
  }

  /** The number of a cell. */
  of({ stage, microBatch }: Cell): number {
    return stage * this.microBatches + microBatch;
  }

  /** The number of a message: activations as the cell that made them, gradients after all of those. */
  ofMessage(message: Pick<Message, 'tensor' | 'stage' | 'microBatch'>): number {
    return this.of(message) + (message.tensor === 'gradient' ? this.cells : 0);
  }

  /** The number of what a part needs from another stage: an activation, a gradient, or −1 for nothing. */
  inputOf(part: Part, cell: Cell): number {
    if (part === 'forward') return cell.stage === 0 ? -1 : this.of(cell) - this.microBatches;
    if (part === 'inputGrad' && cell.stage < this.stages - 1)
      return this.of(cell) + this.microBatches + this.cells;
    return -1;
  }
}
