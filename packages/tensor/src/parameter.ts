// Parameters, state and the modules that own them.
import type { Kernels } from '@baleen/kernels';

import { gaussian } from './random';
import { Region } from './region';
import { emptyTensor, type ScaledTensor, type Shape, Tensor, writeTensor } from './tensor';

/** How a parameter begins. */
export type Initializer = 'normal' | 'ones' | 'zeros';

/** What the optimizer does with a parameter. */
export interface ParameterOptions {
  /** `normal` draws from N(0, std²) (default); norms begin at one. */
  init?: Initializer;
  /** Decoupled weight decay applies (default: to matrices). */
  decay?: boolean;
  /** Where it lies in a larger one of which each rank has a part (default: it is whole). */
  slice?: ParameterSlice;
  /** From how many sources its gradient comes, each kept apart (default 1): see `Parameter.sourceGrads`. */
  sources?: number;
}

/** A part of a parameter that is spread over ranks: consecutive entries of the first axis. */
export interface ParameterSlice {
  /** Entries of the whole. */
  of: number;
  /** The first that is here. */
  start: number;
}

/** A trained weight: FP32 master values, their gradient, and forms derived from the current version. */
export class Parameter {
  /** FP32 master values. */
  readonly data: Tensor;
  /** FP32 gradient, added to by backward. */
  readonly grad: Tensor;
  /** Raised by every change of the values; derived forms are made anew then. */
  version = 0;
  /** How it begins. */
  readonly init: Initializer;
  /** Weight decay applies. */
  readonly decay: boolean;
  /** Where it lies in a larger parameter of its name; null where it is whole. */
  readonly slice: ParameterSlice | null;
  /**
   * FP32 gradients by source, added to by backward in place of `grad`, [n, sources, …] of a parameter [n, …]: an expert gets
   * tokens of several ranks, and whoever sums gradients of micro-batches in an order of their own wants those of each. Null
   * where there is one source.
   */
  readonly sourceGrads: Tensor | null;
  private readonly derivedForms = new Map<
    string,
    { version: number; value: Tensor | ScaledTensor }
  >();

  /**
   * @param pools - where it lives
   * @param shape - sizes
   * @param options - see {@link ParameterOptions}
   */
  constructor(
    private readonly pools: Pools,
    /** Sizes. */
    readonly shape: Shape,
    options: ParameterOptions = {},
  ) {
    this.data = emptyTensor(pools.parameters, shape);
    this.grad = emptyTensor(pools.gradients, shape);
    this.init = options.init ?? 'normal';
    this.decay = options.decay ?? shape.length > 1;
    this.slice = options.slice ?? null;
    const { sources = 1 } = options;
    const [first, ...rest] = shape;
    this.sourceGrads =
      sources === 1 ? null : emptyTensor(pools.gradients, [first, sources, ...rest]);
    if (this.sourceGrads) pools.kernels.fill(this.sourceGrads, 0);
    pools.kernels.fill(this.data, this.init === 'ones' ? 1 : 0);
    pools.kernels.fill(this.grad, 0);
  }

  /** Number of values. */
  get size(): number {
    return this.data.size;
  }

  /** Sizes with all slices together. */
  get globalShape(): Shape {
    const { shape, slice } = this;
    return slice ? [slice.of, ...shape.slice(1)] : shape;
  }

  /**
   * A form of the values (BF16, quantised) kept until the next version.
   * @param key - names the form
   * @param make - takes memory for it, once
   * @param fill - computes it, once a version
   * @returns the form
   */
  derived<T extends Tensor | ScaledTensor>(
    key: string,
    make: (pool: Region) => T,
    fill: (form: T) => void,
  ): T {
    let entry = this.derivedForms.get(key);
    if (!entry) {
      entry = { version: -1, value: make(this.pools.caches) };
      this.derivedForms.set(key, entry);
    }
    const value = entry.value as T;
    if (entry.version !== this.version) {
      fill(value);
      entry.version = this.version;
    }
    return value;
  }

  /** Bytes of the forms that are kept. */
  get formBytes(): number {
    let bytes = 0;
    for (const { value } of this.derivedForms.values()) {
      const parts = 'codes' in value ? [value.codes, value.scales] : [value];
      for (const { block } of parts) bytes += block.bytes;
    }
    return bytes;
  }

  /** The values in BF16, kept until they change. */
  bf16(): Tensor {
    return this.derived(
      'bf16',
      (pool) => emptyTensor(pool, this.shape, 'bf16'),
      (form) => {
        this.pools.kernels.cast(form, this.data);
      },
    );
  }
}

/** The pools of a model: parameters, gradients and forms derived from parameters, each apart from intermediate memory. */
export class Pools {
  /** Master values. */
  readonly parameters: Region;
  /** Gradients. */
  readonly gradients: Region;
  /** BF16 and quantised forms of weights, rotary tables and the like. */
  readonly caches: Region;
  /** State that is saved but not trained: router biases, counts. */
  readonly state: Region;

  /** @param kernels - the backend */
  constructor(
    /** The backend. */
    readonly kernels: Kernels,
  ) {
    this.parameters = new Region(kernels, 'parameters');
    this.gradients = new Region(kernels, 'gradients');
    this.caches = new Region(kernels, 'caches');
    this.state = new Region(kernels, 'state');
  }
}

/** State that belongs to a checkpoint but gets no gradient (router biases). */
export interface StateTensor {
  /** FP32 or I32 values. */
  readonly data: Tensor;
}

/** A part of a model: owns parameters and state, and holds other modules. */
export abstract class Module {
  private readonly ownParameters = new Map<string, Parameter>();
  private readonly ownState = new Map<string, StateTensor>();
  private readonly children: [string, Module][] = [];

  /** Adds a parameter under a name. */
  protected parameter(name: string, parameter: Parameter): Parameter {
    this.ownParameters.set(name, parameter);
    return parameter;
  }

  /** Adds state under a name. */
  protected state(name: string, data: Tensor): Tensor {
    this.ownState.set(name, { data });
    return data;
  }

  /** Adds a module under a name; with an empty name its parameters keep their own. */
  protected child<M extends Module>(name: string, module: M): M {
    this.children.push([name, module]);
    return module;
  }

  /** All parameters by dotted name, in a fixed order.
   * @param prefix - put before every name
   */
  *parameters(prefix = ''): IterableIterator<[string, Parameter]> {
    for (const [name, parameter] of this.ownParameters) yield [prefix + name, parameter];
    for (const [name, module] of this.children)
      yield* module.parameters(name === '' ? prefix : `${prefix}${name}.`);
  }

  /** All state by dotted name, in a fixed order.
   * @param prefix - put before every name
   */
  *states(prefix = ''): IterableIterator<[string, StateTensor]> {
    for (const [name, state] of this.ownState) yield [prefix + name, state];
    for (const [name, module] of this.children)
      yield* module.states(name === '' ? prefix : `${prefix}${name}.`);
  }
}

/**
 * Draws a module's parameters: each from a stream of its own, seeded by the seed and its name, so that values do not
 * depend on what else the model holds, nor, where ranks have parts of a parameter, on how it is cut.
 * @param module - the model
 * @param std - standard deviation of the normal ones (0.006 in V3, §4.2)
 * @param seed - any integer
 */
export function initialize(module: Module, std: number, seed: number): void {
  for (const [name, parameter] of module.parameters()) {
    if (parameter.init === 'normal') {
      const random = gaussian(hash(`${seed}:${name}`));
      const { slice, size, shape } = parameter;
      for (let i = 0; slice && i < slice.start * (size / shape[0]); i += 1) random();
      const values = new Float32Array(parameter.size);
      for (let i = 0; i < values.length; i += 1) values[i] = std * random();
      writeTensor(parameter.data, values);
    }
    parameter.version += 1;
  }
}

/** 32-bit FNV-1a of a text. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/** The view of a parameter's values in a product's precision.
 * @param parameter - the weight
 * @param precision - FP32 master values or their BF16 form
 * @returns what a kernel takes
 */
export function weightView(parameter: Parameter, precision: 'fp32' | 'bf16'): Tensor {
  return precision === 'bf16' ? parameter.bf16() : parameter.data;
}
