// What a stage is to the executor: a chain of phases that it takes micro-batches through, and back. The simplest stage is one
// phase that computes. Where experts are spread over ranks the all-to-alls are phases of their own, which are started and waited
// for apart, so that an overlapped pair computes meanwhile.
//
// Legend: T is whatever phases hand on, a tensor or several. Null stands for nothing: what the first stage gets and the last one
// puts out, and what goes back beyond them. The first stage has its inputs itself, the last one its targets and its loss.

/** Work under way; that of `@baleen/comm` and `@baleen/tensor` fits. */
export interface Handle<T> {
  /** Resolves when it is done, rejects where it failed. */
  readonly done: Promise<void>;
  /** What arrived; called once `done` has resolved. */
  wait(): T;
}

/** A phase that computes. */
export interface ComputePhase<T> {
  /** Which kind of phase. */
  readonly kind: 'compute';
  /**
   * Takes a micro-batch forward, and keeps what the way back needs: all of it, or what it can be computed from again.
   * @param microBatch - its number
   * @param input - what the phase before put out; null at the begin of the model
   * @returns what the phase after gets; null at the end of the model
   */
  forward(microBatch: number, input: T | null): T | null;
  /**
   * Gradient of the input. What only this needs is let go; operands of the gradients of weights stay.
   * @param microBatch - its number
   * @param outputGrad - gradient of what `forward` put out; null at the end of the model
   * @returns gradient of `forward`'s input; null at the begin of the model
   */
  inputGrad(microBatch: number, outputGrad: T | null): T | null;
  /**
   * Adds the gradients of its weights to what is there, at once after `inputGrad` or later. Left out where it has none.
   * @param microBatch - its number
   */
  weightGrad?(microBatch: number): void;
}

/** A phase that moves data between ranks: it is begun, and what arrives is taken when it is needed. */
export interface CommunicationPhase<T> {
  /** Which kind of phase. */
  readonly kind: 'communication';
  /**
   * Begins to send what the phase before put out.
   * @param microBatch - its number
   * @param input - what is sent
   * @returns a handle on what the phase after gets
   */
  forward(microBatch: number, input: T | null): Handle<T | null>;
  /**
   * Begins to send the gradient back.
   * @param microBatch - its number
   * @param outputGrad - gradient of what the phase after got
   * @returns a handle on the gradient of `forward`'s input
   */
  inputGrad(microBatch: number, outputGrad: T | null): Handle<T | null>;
}

/** A phase of a stage. */
export type StagePhase<T> = ComputePhase<T> | CommunicationPhase<T>;

/**
 * A stage on a rank: its phases, in the order of forward. Phases keep what a micro-batch needs by its number; several
 * micro-batches are under way at once.
 */
export type Stage<T> = readonly StagePhase<T>[];
