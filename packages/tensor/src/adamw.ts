// AdamW over a module's parameters, with global-norm clipping. Nothing here reads a value back: norm, clip factor and the
// finite flag are small tensors that the next kernel takes.

import type { Kernels } from '@baleen/kernels';
import type { Module, Parameter } from './parameter';
import { Region } from './region';
import { RepeatedCalls } from './repeat';
import { emptyTensor, Tensor, writeTensor } from './tensor';

/** Settings of one update. V3 (§4.2): β 0.9 and 0.95, weight decay 0.1, clip 1. */
export interface AdamWSettings {
  /** Learning rate of this update. */
  learningRate: number;
  /** Decay of the first moment. */
  beta1: number;
  /** Decay of the second moment. */
  beta2: number;
  /** Added to the root of the second moment. */
  epsilon: number;
  /** Decoupled weight decay on parameters that take it. */
  weightDecay: number;
  /** Largest global gradient norm; Infinity for none. */
  maxNorm: number;
}

/** What moments are stored in. */
export type MomentForm = 'bf16' | 'fp32';

/** A parameter's moments. */
export interface Moments {
  /** exp_avg. */
  readonly m: Tensor;
  /** exp_avg_sq. */
  readonly v: Tensor;
}

/** The optimizer's state and update. */
export class AdamW {
  /** Updates done. */
  step = 0;
  /** Memory of the moments. */
  readonly region: Region;
  /** Global gradient norm of the last update, [1]. */
  readonly norm: Tensor;
  /** 1 if the last update was finite, else 0, [1] I32. */
  readonly finite: Tensor;
  private readonly factor: Tensor;
  private readonly squares: Tensor;
  /** What changes from update to update: learning rate and bias corrections. */
  private readonly rates: Tensor;
  private readonly calls: RepeatedCalls;
  private readonly entries: { name: string; parameter: Parameter; moments: Moments }[] = [];

  /**
   * @param kernels - the backend
   * @param module - whose parameters it updates
   * @param options - `moments`: what they are stored in (default BF16, as in V3, §3.3.3)
   */
  constructor(
    private readonly kernels: Kernels,
    module: Module,
    { moments: form = 'bf16' }: { moments?: MomentForm } = {},
  ) {
    this.region = new Region(kernels, 'optimizer');
    for (const [name, parameter] of module.parameters()) {
      const dtype = form === 'bf16' ? 'bf16' : 'f32';
      const moments = {
        m: emptyTensor(this.region, parameter.shape, dtype),
        v: emptyTensor(this.region, parameter.shape, dtype),
      };
      kernels.fill(moments.m, 0);
      kernels.fill(moments.v, 0);
      this.entries.push({ name, parameter, moments });
    }
    this.norm = emptyTensor(this.region, [1]);
    this.factor = emptyTensor(this.region, [1]);
    this.finite = emptyTensor(this.region, [1], 'i32');
    this.squares = emptyTensor(this.region, [this.entries.length]);
    this.rates = emptyTensor(this.region, [3]);
    this.calls = new RepeatedCalls(kernels);
  }

  /** The moments by parameter name. */
  *moments(): IterableIterator<[string, Moments]> {
    for (const { name, moments } of this.entries) yield [name, moments];
  }

  /**
   * Updates every parameter from its gradient and clears the gradients. Where the norm or the loss is not finite, no
   * parameter and no moment changes and `finite` says so; the caller reads that flag when it suits.
   * @param loss - [1], the step's loss; the same tensor at every update
   * @param settings - see {@link AdamWSettings}
   */
  update(loss: Tensor, settings: AdamWSettings): void {
    this.step += 1;
    const { learningRate, beta1, beta2 } = settings;
    const corrections = [beta1, beta2].map((beta) => 1 / (1 - beta ** this.step));
    writeTensor(this.rates, Float32Array.of(learningRate, ...corrections));
    this.calls.run(() => {
      this.enqueue(loss, settings);
    }, [loss, beta1, beta2, settings.epsilon, settings.weightDecay, settings.maxNorm]);
    for (const { parameter } of this.entries) parameter.version += 1;
  }

  private enqueue(loss: Tensor, settings: AdamWSettings): void {
    const { kernels } = this;
    this.entries.forEach(({ parameter }, index) => {
      kernels.sumOfSquares(this.squares.rows(index, 1), parameter.grad);
    });
    kernels.clipFactor(this.norm, this.factor, this.finite, this.squares, loss, {
      maxNorm: settings.maxNorm,
    });
    for (const { parameter, moments } of this.entries) {
      const { data, grad } = parameter;
      const weightDecay = parameter.decay ? settings.weightDecay : 0;
      kernels.adamw(data, grad, moments.m, moments.v, this.factor, this.finite, this.rates, {
        ...settings,
        weightDecay,
      });
      kernels.fill(grad, 0);
    }
  }
}
