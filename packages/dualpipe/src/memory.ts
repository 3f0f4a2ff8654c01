// What a rank holds over time. An activation of a stage and a micro-batch is held from the begin of its forward to the end of
// the gradient of its input; where the gradient of the weights comes later, its operands are held until that is done.
import { type Action, forEachPart, isMessage } from './schedule';

/** What a rank holds from a moment on. */
export interface MemoryStep {
  /** The moment. */
  time: number;
  /** Activations, each of one stage and one micro-batch. */
  inFlight: number;
  /** Gradients of weights that wait. */
  waiting: number;
}

/** Walks a rank's list; every change is given with the position of its action, and whether that begins or ends. */
export function walkMemory(
  list: readonly Action[],
  visit: (step: Omit<MemoryStep, 'time'>, position: number, at: 'start' | 'end') => void,
): void {
  let [inFlight, waiting] = [0, 0];
  list.forEach((action, position) => {
    if (isMessage(action)) return;
    let [taken, released, begun, done] = [0, 0, 0, 0];
    forEachPart(action, (part) => {
      if (part === 'forward') taken += 1;
      else if (part === 'inputGrad') {
        released += 1;
        begun += 1;
      } else done += 1;
    });
    if (taken > 0) {
      inFlight += taken;
      visit({ inFlight, waiting }, position, 'start');
    }
    if (released + done === 0) return;
    inFlight -= released;
    waiting += begun - done;
    visit({ inFlight, waiting }, position, 'end');
  });
}
