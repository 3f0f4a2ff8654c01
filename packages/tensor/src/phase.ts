// Phases: the units in which a model runs. A decoder layer is a list of them (attention, dispatch, experts, combine),
// each with its own boundary on the tape, so that an executor can put one micro-batch's forward beside another's
// backward, and communication beside both (§3.2.1).

import { beyondForward, orderError } from './errors';
import type { Block, Region } from './region';
import { Tape, type TapeOptions } from './tape';
import { holdAll, releaseAll } from './tape-node';
import { isTensor, Tensor, type Value } from './tensor';

/** Named values between phases. */
export type Bundle = Readonly<Record<string, Value>>;

/** Gradients of a bundle: none where nothing flows. */
export type BundleGrad = Readonly<Record<string, Tensor | undefined>>;

/** A phase that only computes. Its gradient is what it records on the tape. */
export interface ComputePhase {
  /** Which kind of phase. */
  readonly kind: 'compute';
  /** Its name, unique in its chain. */
  readonly name: string;
  /** The work. Values of the input that it does not touch pass on if it returns them. */
  forward(tape: Tape, input: Bundle): Bundle;
}

/** Work under way. */
export interface Handle<T> {
  /** Resolves when the work is done. */
  readonly done: Promise<void>;
  /** Blocks until then and returns what arrived. */
  wait(): T;
}

/** A phase that moves data between ranks: started and finished apart, so that other work fits between. */
export interface CommunicationPhase {
  /** Which kind of phase. */
  readonly kind: 'communication';
  /** Its name, unique in its chain. */
  readonly name: string;
  /** Begins to send the input. */
  start(tape: Tape, input: Bundle): Handle<Bundle>;
  /** Begins to send the gradients of the output back. */
  startBackward(tape: Tape, outputGrad: BundleGrad): Handle<BundleGrad>;
}

/** Either kind. */
export type Phase = ComputePhase | CommunicationPhase;

interface Boundary {
  phase: Phase;
  input: Bundle;
  output: Bundle;
}

/**
 * One micro-batch's way through a chain of phases, and back. Ordinary training runs `forward` and `backwardInput` phase
 * by phase and drains the weight gradients at the end; an executor may interleave several runs in any way that keeps
 * each run's own order.
 */
export class Run {
  /** What the phases record on. */
  readonly tape: Tape;
  private readonly boundaries: Boundary[] = [];
  private current: Bundle | null = null;
  private grads: BundleGrad | null = null;
  /** The communication phase that was started and not waited for, and the memory it uses. */
  private underWay: { name: string; blocks: readonly Block[] } | null = null;

  /**
   * @param region - memory of this micro-batch on this stage
   * @param options - see {@link TapeOptions}
   */
  constructor(region: Region, options: TapeOptions = {}) {
    this.tape = new Tape(region, options);
  }

  /**
   * Runs the next phase forward.
   * @param phase - the phase
   * @param input - the chain's input for the first phase; later ones take what the last one returned
   * @returns the phase's output, held until the next call
   */
  forward(phase: Phase, input?: Bundle): Bundle {
    if (phase.kind === 'communication') return this.start(phase, input).wait();
    const given = this.given(input);
    const output = this.tape.frame(phase.name, () => asTuple(phase.forward(this.tape, given)));
    return this.arrived(phase, given, toBundle(output));
  }

  /**
   * Starts a communication phase forward; `wait()` of the handle finishes it.
   * @param phase - the phase
   * @param input - as for `forward`
   * @returns a handle on the output
   */
  start(phase: CommunicationPhase, input?: Bundle): Handle<Bundle> {
    const given = this.given(input);
    return this.begun(
      phase.name,
      () => phase.start(this.tape, given),
      (landed) => {
        const output = this.tape.frame(phase.name, () => asTuple(landed()));
        return this.arrived(phase, given, toBundle(output));
      },
    );
  }

  /**
   * Takes the last phase back.
   * @param outputGrad - gradients of the chain's output, for the first call; later ones take what the last one returned
   * @returns gradients of the phase's input, held until the next call
   */
  backwardInput(outputGrad?: BundleGrad): BundleGrad {
    const boundary = this.boundaries.at(-1);
    if (boundary?.phase.kind === 'communication')
      return this.startBackward(boundary.phase, outputGrad).wait();
    const { input, output } = this.departing();
    const given = outputGrad ?? this.grads ?? {};
    const names = Object.keys(input);
    const grads = this.tape.backFrame(
      Object.values(output),
      Object.keys(output).map((name) => given[name]),
      Object.values(input),
    );
    return this.arrivedBack(Object.fromEntries(names.map((name, index) => [name, grads[index]])));
  }

  /**
   * Starts the last phase's way back, a communication phase.
   * @param phase - the phase
   * @param outputGrad - as for `backwardInput`
   * @returns a handle on the gradients of its input
   */
  startBackward(phase: CommunicationPhase, outputGrad?: BundleGrad): Handle<BundleGrad> {
    const last = this.boundaries.at(-1)?.phase;
    if (last && last !== phase)
      throw orderError(
        `backward of ${phase.name} while ${last.name} is next`,
        'phases go back in the reverse of their order',
      );
    this.departing();
    return this.begun(
      phase.name,
      () => phase.startBackward(this.tape, outputGrad ?? this.grads ?? {}),
      (landed) => {
        const names: string[] = [];
        const held = this.tape.frame(`${phase.name} backward`, () => {
          const present: Tensor[] = [];
          for (const [name, grad] of Object.entries(landed()))
            if (grad) {
              names.push(name);
              present.push(grad);
            }
          return present;
        });
        // The way back leaves no frames: the one just made for its scope, and the one of the way there.
        if (this.tape.recording) {
          this.tape.backFrame([], [], []);
          this.tape.backFrame([], [], []);
        }
        return this.arrivedBack(Object.fromEntries(names.map((name, i) => [name, held[i]])));
      },
    );
  }

  /** Ends the run: lets go of the last output or gradients. All phases must have gone back (or none recorded). */
  finish(): void {
    const left = this.boundaries.map(({ phase }) => phase.name);
    if (left.length > 0)
      throw orderError(`a run ended before ${left.join(', ')} went back`, 'call `abandon` instead');
    this.letGo();
  }

  /** Drops an unfinished run, giving all its memory back. */
  abandon(): void {
    for (const block of this.underWay?.blocks ?? []) block.release();
    this.underWay = null;
    this.letGo();
    this.tape.abandon();
  }

  private letGo(): void {
    if (this.current) releaseAll(Object.values(this.current));
    if (this.grads) releaseAll(Object.values(this.grads));
    this.current = null;
    this.grads = null;
    this.boundaries.length = 0;
  }

  /** Begins a communication; its memory is held until it is waited for, and passes to the frame that `finish` opens. */
  private begun<T, R>(
    name: string,
    start: () => Handle<T>,
    finish: (landed: () => T) => R,
  ): Handle<R> {
    const { value: handle, blocks } = this.tape.detached(start);
    this.underWay = { name, blocks };
    let result: { value: R } | null = null;
    return {
      done: handle.done,
      wait: () => {
        result ??= {
          value: finish(() => {
            this.underWay = null;
            this.tape.adopt(blocks);
            return handle.wait();
          }),
        };
        return result.value;
      },
    };
  }

  private idle(): void {
    if (this.underWay)
      throw orderError(`${this.underWay.name} is under way`, 'wait for it before the next phase');
  }

  private given(input: Bundle | undefined): Bundle {
    this.idle();
    if (input) {
      holdAll(Object.values(input));
      if (this.current) releaseAll(Object.values(this.current));
      this.current = input;
    }
    if (!this.current)
      throw orderError(
        'the first phase of a run was given no input',
        'hand it the input of the chain',
      );
    return this.current;
  }

  private arrived(phase: Phase, input: Bundle, output: Bundle): Bundle {
    if (this.current) releaseAll(Object.values(this.current));
    this.current = output;
    if (this.tape.recording) this.boundaries.push({ phase, input, output });
    return output;
  }

  private departing(): Boundary {
    this.idle();
    if (this.current) releaseAll(Object.values(this.current));
    this.current = null;
    const boundary = this.boundaries.pop();
    if (!boundary) throw beyondForward();
    return boundary;
  }

  private arrivedBack(grads: BundleGrad): BundleGrad {
    if (this.grads) releaseAll(Object.values(this.grads));
    this.grads = grads;
    return grads;
  }
}

// Frames return lists; bundles keep their names beside them.
type Named = readonly Value[] & { names?: string[] };

function asTuple(bundle: Bundle): Named {
  for (const [name, value] of Object.entries(bundle))
    if (!isTensor(value))
      throw orderError(
        `a phase returned no tensor under "${name}"`,
        'a phase returns tensors by name',
      );
  const list: Named = Object.values(bundle);
  list.names = Object.keys(bundle);
  return list;
}

function toBundle(list: Named): Bundle {
  return Object.fromEntries((list.names ?? []).map((name, index) => [name, list[index]]));
}
