// The tape: what one micro-batch's forward leaves behind for its backward.
//
// It is cut into frames, one a phase (see phase.ts). Inside a frame every operation records a node: its inputs and
// outputs, the tensors its gradient needs, and how to compute that gradient. Backward takes the last frame, walks its
// nodes in reverse, and gives each node's saved memory back as soon as it was used. Gradients of weights go to a queue
// that can be run at once or later (§3.2.1: the split of backward that DualPipe builds on).
//
// Memory follows three rules, so that nobody calls dispose:
// - a scope holds what is allocated inside it and lets go at its end (a frame's forward, one node's backward);
// - what must outlive the scope is held by someone else: saved tensors by their node, outputs by the boundary between
//   frames, operands of a weight gradient by the queue;
// - a block that nobody holds goes back to the region at once.
import { byteSize, type CodeType, type DType, type Kernels } from '@baleen/kernels';
import { beyondForward, orderError } from './errors';
import { GradientSums } from './gradient-sums';
import type { Block, Rebuildable, Region } from './region';
import { holdAll, type RecordedNode, type TapeNode, TapeNodes } from './tape-node';
import { blocksOf, ScaledTensor, type Shape, sizeOf, Tensor, type Value } from './tensor';

interface Frame {
  name: string;
  nodes: RecordedNode[];
}

interface WeightGrad {
  name: string;
  held: Block[];
  run(): void;
}

/** How a tape behaves. */
export interface TapeOptions {
  /** Record for backward (default), or only compute. */
  grad?: boolean;
  /** Keep weight gradients in the queue until `drainWeightGrads` instead of running them at once. */
  deferWeightGrads?: boolean;
  /** Names of parts whose values are kept for backward, where `recompute` would make them again (default none). */
  keep?: readonly string[];
}

/** One micro-batch on one stage: its region, its frames, its queue of weight gradients. */
export class Tape {
  /** Whether operations are recorded now. */
  recording: boolean;
  private readonly frames: Frame[] = [];
  private nodes: RecordedNode[] = [];
  private scope: Block[] = [];
  private readonly queue: WeightGrad[] = [];
  private readonly deferring: boolean;
  /** Parts that are not computed again. */
  readonly keep: readonly string[];

  /**
   * @param region - memory for everything made on this tape
   * @param options - see {@link TapeOptions}
   */
  constructor(
    /** Memory for everything made on this tape. */
    readonly region: Region,
    options: TapeOptions = {},
  ) {
    this.recording = options.grad ?? true;
    this.deferring = options.deferWeightGrads ?? false;
    this.keep = options.keep ?? [];
  }

  /** The backend. */
  get kernels(): Kernels {
    return this.region.kernels;
  }

  /** Frames waiting for backward. */
  get depth(): number {
    return this.frames.length;
  }

  /** Weight gradients waiting in the queue. */
  get pendingWeightGrads(): number {
    return this.queue.length;
  }

  // — memory —

  /**
   * A tensor that lives to the end of the current scope, or as long as a node or boundary holds it.
   * @param shape - sizes
   * @param dtype - element type
   * @returns a tensor with undefined contents
   */
  empty(shape: Shape, dtype: DType = 'f32'): Tensor {
    const block = this.region.allocate(byteSize(dtype, sizeOf(shape)));
    this.scope.push(block);
    return new Tensor(block, shape, dtype);
  }

  /** Like `empty`, filled with zeros.
   * @param shape - sizes
   * @returns FP32 zeros
   */
  zeros(shape: Shape): Tensor {
    const tensor = this.empty(shape);
    this.kernels.fill(tensor, 0);
    return tensor;
  }

  /**
   * A scaled tensor with undefined contents.
   * @param shape - [rows, cols]
   * @param blockRows - rows of a block
   * @param blockCols - columns of a block
   * @param options - type of the codes (default E4M3), the scale format, and the number of scale rows where grouping asks
   *   for more than ⌈rows / blockRows⌉
   * @returns the tensor
   */
  emptyScaled(
    shape: readonly [number, number],
    blockRows: number,
    blockCols: number,
    options: {
      dtype?: CodeType;
      scaleFormat?: 'fp32' | 'powerOfTwo';
      scaleRows?: number;
    } = {},
  ): ScaledTensor {
    const [rows, cols] = shape;
    const codes = this.empty(shape, options.dtype ?? 'e4m3');
    const scaleRows = options.scaleRows ?? Math.ceil(rows / blockRows);
    const scales = this.empty([scaleRows, Math.ceil(cols / blockCols)]);
    return new ScaledTensor(codes, scales, blockRows, blockCols, options.scaleFormat);
  }

  /**
   * Runs `body` and lets go of everything allocated in it, except what it returns, which passes to the scope around.
   * @param body - work
   * @returns the body's values
   */
  scoped<T extends readonly (Value | undefined)[]>(body: () => T): T {
    const outer = this.scope;
    this.scope = [];
    const inner = this.scope;
    try {
      const values = body();
      for (const value of values)
        if (value)
          for (const block of blocksOf(value)) {
            block.retain();
            outer.push(block);
          }
      return values;
    } finally {
      this.scope = outer;
      for (const block of inner) block.release();
    }
  }

  /**
   * Runs `body` and keeps holding what it allocates beyond its end, for work that is under way in the meantime: `adopt`
   * passes the blocks to a later scope.
   * @param body - begins the work
   * @returns what it returned, and the blocks
   */
  detached<T>(body: () => T): {
    /** What it returned. */
    value: T;
    /** What it allocated. */
    blocks: readonly Block[];
  } {
    const outer = this.scope;
    const blocks: Block[] = [];
    this.scope = blocks;
    try {
      return { value: body(), blocks };
    } catch (error) {
      for (const block of blocks) block.release();
      throw error;
    } finally {
      this.scope = outer;
    }
  }

  // — recording —

  /**
   * Records an operation.
   * @param node - see {@link TapeNode}
   */
  record(node: TapeNode): void {
    if (!this.recording) return;
    const held: Block[] = [];
    const rebuilds: Rebuildable[] = [];
    for (const value of node.saved)
      for (const block of blocksOf(value)) {
        if (block.source) {
          if (!rebuilds.includes(block.source)) rebuilds.push(block.source);
        } else {
          block.retain();
          held.push(block);
        }
      }
    this.nodes.push({ node, held, rebuilds });
  }

  /**
   * Queues the gradient of a weight, or runs it at once. It must add to the parameter's gradient.
   * @param name - for messages
   * @param operands - what it reads; held until it has run
   * @param run - the work
   */
  deferWeightGrad(name: string, operands: readonly Value[], run: () => void): void {
    if (!this.deferring) {
      run();
      return;
    }
    const held = operands.flatMap(blocksOf);
    for (const block of held) block.retain();
    this.queue.push({ name, held, run });
  }

  /**
   * Runs the queued weight gradients.
   * @param order - which first: a permutation of the queue's indices; in the queue's order without
   */
  drainWeightGrads(order?: readonly number[]): void {
    // Refused before anything runs: a task left out or run twice would be a wrong gradient without a sign of it.
    if (order && !isPermutation(order, this.queue.length))
      throw orderError(
        `[${order.join(', ')}] is no order of the ${this.queue.length} weight gradients waiting`,
        'name every index from 0 up once, or leave the order out',
      );
    const tasks = this.queue.splice(0);
    for (const index of order ?? tasks.keys()) {
      const task = tasks[index];
      this.scoped(() => {
        task.run();
        return [];
      });
      for (const block of task.held) block.release();
    }
  }

  // — frames —

  /**
   * Runs `body` as a frame of the tape. The outputs are held for the caller, who lets go with `releaseAll`.
   * @param name - the frame's name
   * @param body - the work; returns the outputs
   * @returns the outputs, held
   */
  frame<T extends readonly Value[]>(name: string, body: () => T): T {
    const nodes = this.nodes;
    const scope = this.scope;
    this.nodes = [];
    this.scope = [];
    try {
      const outputs = body();
      holdAll(outputs);
      if (this.recording) this.frames.push({ name, nodes: this.nodes });
      return outputs;
    } finally {
      const inner = this.scope;
      this.nodes = nodes;
      this.scope = scope;
      for (const block of inner) block.release();
    }
  }

  /**
   * Takes the last frame back: from the gradients of its outputs to those of its inputs, which are held for the
   * caller. Gradients given are not released here.
   * @param outputs - the frame's outputs
   * @param outputGrads - their gradients, undefined where nothing flows
   * @param inputs - the values whose gradients are wanted
   * @returns one gradient (or undefined) an input, held
   */
  backFrame(
    outputs: readonly Value[],
    outputGrads: readonly (Tensor | undefined)[],
    inputs: readonly Value[],
  ): (Tensor | undefined)[] {
    const frame = this.frames.pop();
    if (!frame) throw beyondForward();
    const grads = new GradientSums(this.region);
    try {
      grads.addAll(outputs, outputGrads);
      this.backNodes(frame.nodes, grads);
      const result = grads.of(inputs);
      holdAll(result);
      return result;
    } finally {
      grads.release();
      // None, unless a gradient could not be computed.
      new TapeNodes(frame.nodes).drop();
    }
  }

  /** Drops all frames and queued work of an abandoned step, giving their memory back. */
  abandon(): void {
    for (const frame of this.frames.splice(0))
      for (const node of frame.nodes) for (const block of node.held) block.release();
    for (const task of this.queue.splice(0)) for (const block of task.held) block.release();
  }

  // — for recompute.ts —

  /**
   * Runs `body` with recording set, collecting its nodes. The scope is the body's own; `outputs` are held.
   * @internal
   */
  collect<T extends readonly Value[]>(
    recording: boolean,
    body: () => T,
  ): { outputs: T; nodes: TapeNodes } {
    const saved = { nodes: this.nodes, scope: this.scope, recording: this.recording };
    this.nodes = [];
    this.scope = [];
    this.recording = recording;
    try {
      const outputs = body();
      holdAll(outputs);
      return { outputs, nodes: new TapeNodes(this.nodes) };
    } finally {
      const inner = this.scope;
      this.nodes = saved.nodes;
      this.scope = saved.scope;
      this.recording = saved.recording;
      for (const block of inner) block.release();
    }
  }

  /**
   * Lets the current scope hold blocks that the caller holds now.
   * @internal
   */
  adopt(blocks: readonly Block[]): void {
    this.scope.push(...blocks);
  }

  /**
   * Backward through collected nodes; gradients of `inputs` are in the current scope.
   * @internal
   */
  backCollected(
    collected: TapeNodes,
    outputs: readonly Value[],
    outputGrads: readonly (Tensor | undefined)[],
    inputs: readonly Value[],
  ): (Tensor | undefined)[] {
    const grads = new GradientSums(this.region);
    const nodes = collected.take();
    try {
      grads.addAll(outputs, outputGrads);
      this.backNodes(nodes, grads);
      const result = grads.of(inputs);
      holdAll(result);
      for (const grad of result) if (grad) this.scope.push(grad.block);
      return result;
    } finally {
      grads.release();
      new TapeNodes(nodes).drop();
    }
  }

  // — backward —

  private backNodes(nodes: RecordedNode[], grads: GradientSums): void {
    for (let recorded = nodes.pop(); recorded; recorded = nodes.pop()) {
      const { node, held } = recorded;
      const outer = this.scope;
      this.scope = [];
      try {
        const outputGrads = grads.of(node.outputs);
        if (outputGrads.some((grad) => grad !== undefined))
          this.backNode(recorded, outputGrads, grads);
        else node.discard?.();
      } finally {
        const inner = this.scope;
        this.scope = outer;
        for (const block of inner) block.release();
        for (const block of held) block.release();
      }
    }
  }

  private backNode(
    { node, rebuilds }: RecordedNode,
    outputGrads: readonly (Tensor | undefined)[],
    grads: GradientSums,
  ): void {
    for (const source of rebuilds) source.rebuild();
    const inputGrads = node.backward(outputGrads);
    // Gradients of outputs are spent, unless an output is an input as well (then the sum goes on below).
    for (const output of node.outputs) this.scope.push(...grads.take(output));
    grads.addAll(node.inputs, inputGrads);
  }
}

function isPermutation(order: readonly number[], length: number): boolean {
  const ascending = [...order].sort((a, b) => a - b);
  return order.length === length && ascending.every((index, place) => index === place);
}
