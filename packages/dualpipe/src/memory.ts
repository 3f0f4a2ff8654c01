// What a rank holds over time. An activation of a stage and a micro-batch is held from the begin of its forward to the end of
// the gradient of its input; where the gradient of the weights comes later, its operands are held until that is done.
import { type Action, type Cell, forEachPart, isMessage } from './schedule';

/** What a rank holds from a moment on. */
export interface MemoryStep {
  /** The moment. */
  time: number;
  /** Activations, each of one stage and one micro-batch. */
  inFlight: number;
  /** Gradients of weights that wait. */
  waiting: number;
  /** Bytes of both, where it is known how many each has. */
  bytes?: number;
}

/** Bytes that a rank holds, the same for all stages and micro-batches or for each of its own. */
export interface HeldBytes {
  /** Of an activation: a stage's, of one micro-batch. */
  activation: number | ((cell: Cell) => number);
  /** Of the operands that a waiting gradient of weights keeps. */
  waiting: number | ((cell: Cell) => number);
}

/** Walks a rank's list; every change is given with the position of its action, and whether that begins or ends. */
export function walkMemory(
  list: readonly Action[],
  visit: (step: Omit<MemoryStep, 'time'>, position: number, at: 'start' | 'end') => void,
  held?: HeldBytes,
): void {
  let [inFlight, waiting, bytes] = [0, 0, 0];
  const sized = (what: HeldBytes['activation'] | undefined, cell: Cell): number =>
    typeof what === 'function' ? what(cell) : (what ?? 0);
  const step = (): Omit<MemoryStep, 'time'> => ({
    inFlight,
    waiting,
    ...(held ? { bytes } : {}),
  });
  list.forEach((action, position) => {
    if (isMessage(action)) return;
    forEachPart(action, (part, cell) => {
      if (part !== 'forward') return;
      inFlight += 1;
      bytes += sized(held?.activation, cell);
      visit(step(), position, 'start');
    });
    if (action.kind === 'forward') return;
    forEachPart(action, (part, cell) => {
      if (part === 'inputGrad') {
        inFlight -= 1;
        waiting += 1;
        bytes += sized(held?.waiting, cell) - sized(held?.activation, cell);
      } else if (part === 'weightGrad') {
        waiting -= 1;
        bytes -= sized(held?.waiting, cell);
      }
    });
    visit(step(), position, 'end');
  });
}
