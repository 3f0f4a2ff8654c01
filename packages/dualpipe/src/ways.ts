// A computation's way through the phases of its stage, and how the two ways of an overlapped pair go in turn.
//
// A way is cut into *turns*: compute up to the next communication, begin that, leave. Alone, a way takes one turn after the other
// and waits in between. In a pair the backward and the forward take turns. With layers of four phases that is the published order
// (see phases.ts): combine back; attention, dispatch; experts back, dispatch back, weights; experts, combine; attention back; …
// Communications begin in the same order on all ranks that run the same pair, as collective calls must, and each as early as it
// can: right behind what it needs, while the other way still has its own under way.
import type { Handle, Stage } from './stage';

/** Waits for communication, and counts the time. */
export type Wait = (done: Promise<void>) => Promise<void>;

/** A micro-batch on its way forward or back through a stage. */
class Way<T> {
  private position: number;
  private readonly step: 1 | -1;
  private handle: Handle<T | null> | null = null;
  /** Phases that went back, whose gradients of weights are due. */
  private due: number[] = [];

  /**
   * @param stage - its phases
   * @param direction - forward, or back
   * @param microBatch - which
   * @param value - input of the first phase, or gradient of the last one's output; at the end the result
   * @param wait - for communication
   */
  constructor(
    private readonly stage: Stage<T>,
    private readonly direction: 'forward' | 'inputGrad',
    private readonly microBatch: number,
    public value: T | null,
    private readonly wait: Wait,
  ) {
    this.step = direction === 'forward' ? 1 : -1;
    this.position = direction === 'forward' ? 0 : stage.length - 1;
  }

  /** Computes up to the next communication; false where none is left. */
  async compute(): Promise<boolean> {
    const { stage, direction, microBatch } = this;
    if (this.handle) {
      await this.wait(this.handle.done);
      this.value = this.handle.wait();
      this.handle = null;
    }
    for (; this.position >= 0 && this.position < stage.length; this.position += this.step) {
      const phase = stage[this.position];
      if (phase.kind === 'communication') return true;
      this.value = phase[direction](microBatch, this.value);
      this.due.push(this.position);
    }
    return false;
  }

  /** Begins the communication that `compute` came to. */
  communicate(): void {
    const phase = this.stage[this.position];
    if (phase.kind !== 'communication') return;
    this.handle = phase[this.direction](this.microBatch, this.value);
    this.position += this.step;
  }

  /** Adds the gradients of the weights of what went back since they were added last. */
  addWeightGrads(): void {
    for (const position of this.due) addWeightGrad(this.stage, position, this.microBatch);
    this.due = [];
  }
}

function addWeightGrad<T>(stage: Stage<T>, position: number, microBatch: number): void {
  const phase = stage[position];
  if (phase.kind === 'compute') phase.weightGrad?.(microBatch);
}

/** Takes a micro-batch forward; returns what comes out. */
export async function goForward<T>(
  stage: Stage<T>,
  microBatch: number,
  input: T | null,
  wait: Wait,
): Promise<T | null> {
  const way = new Way(stage, 'forward', microBatch, input, wait);
  while (await way.compute()) way.communicate();
  return way.value;
}

/** Takes a micro-batch back, with gradients of weights or without; returns the gradient of the input. */
export async function goBack<T>(
  stage: Stage<T>,
  microBatch: number,
  outputGrad: T | null,
  wait: Wait,
  weights: boolean,
): Promise<T | null> {
  const way = new Way(stage, 'inputGrad', microBatch, outputGrad, wait);
  for (;;) {
    const more = await way.compute();
    if (weights) way.addWeightGrads();
    if (!more) return way.value;
    way.communicate();
  }
}

/** The gradients of a stage's weights, in the order of backward. */
export function goThroughWeights<T>(stage: Stage<T>, microBatch: number): void {
  for (let position = stage.length - 1; position >= 0; position -= 1)
    addWeightGrad(stage, position, microBatch);
}

/** One end of a pair: a stage, a micro-batch, and what its first phase gets. */
export interface WayIn<T> {
  /** Phases. */
  stage: Stage<T>;
  /** Micro-batch. */
  microBatch: number;
  /** Input, or gradient of the output. */
  value: T | null;
}

/** Takes one micro-batch forward and another one back, in turn; returns the results of both. */
export async function goBothWays<T>(
  forward: WayIn<T>,
  backward: WayIn<T>,
  wait: Wait,
): Promise<{ output: T | null; inputGrad: T | null }> {
  const there = new Way(forward.stage, 'forward', forward.microBatch, forward.value, wait);
  const back = new Way(backward.stage, 'inputGrad', backward.microBatch, backward.value, wait);
  let going = { there: true, back: true };
  while (going.there || going.back) {
    if (going.back) {
      going = { ...going, back: await back.compute() };
      // The communication first: the gradients of weights are what hides it.
      if (going.back) back.communicate();
      back.addWeightGrads();
    }
    if (going.there) {
      going = { ...going, there: await there.compute() };
      if (going.there) there.communicate();
    }
  }
  return { output: there.value, inputGrad: back.value };
}
