// AdamW over a module's parameters, with global-norm clipping. Nothing here reads a value back: norm, clip factor and the
// finite flag are small tensors that the next kernel takes.
//
// Ranks that hold the same parameters may share the update (ZeRO-1): each has the moments of its elements alone. What
// they must tell each other is left to whoever has the ranks: gradients are added up before `measure`, squares between
// `measure` and `apply`, and the new values are handed round after it.

import type { Kernels } from '@baleen/kernels';
import type { Module, Parameter } from './parameter';
import { Region } from './region';
import { RepeatedCalls } from './repeat';
import { cutPieces, ownersOf, type Piece, type Share } from './shares';
import { emptyTensor, type Shape, Tensor, writeTensor } from './tensor';

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

/** Options of {@link AdamW}. */
export interface AdamWOptions {
  /** What moments are stored in (default BF16, as in V3, §3.3.3). */
  moments?: MomentForm;
  /** Of the ranks that hold the same parameters, which one this is (default: it is alone). */
  share?: Share;
  /** Likewise of those that hold the same slices of parameters that are spread over ranks (default: `share`). */
  sliceShare?: Share;
  /**
   * The parameters of the whole model in their order, where the module is a part of it (default: the module's own). Their squares
   * have places of their own, so that the norm is the same bits whatever part a rank has.
   */
  whole?: readonly {
    /** Dotted name. */
    name: string;
    /** Sizes, slices all together. */
    shape: Shape;
  }[];
}

/** The moments of the elements of a parameter that this rank updates. */
export interface Moments {
  /** First of these elements in the parameter; all of them where nobody shares the update. */
  readonly start: number;
  /** exp_avg. */
  readonly m: Tensor;
  /** exp_avg_sq. */
  readonly v: Tensor;
}

/** A parameter and who updates what of it. */
export interface SharedParameter {
  /** Its dotted name. */
  readonly name: string;
  /** The parameter. */
  readonly parameter: Parameter;
  /** By rank of those that share it, the elements that rank updates: neighbours, or none. */
  readonly ranges: readonly Piece[];
}

/** A parameter, where its pieces are among all, and the moments of this rank's: null where it has none. */
interface Entry extends SharedParameter {
  /** Elements as this rank has them; `place` is that of the sum of squares. */
  readonly pieces: readonly (Piece & { place: number })[];
  /** This rank among those that share it. */
  readonly rank: number;
  readonly moments: Moments | null;
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
  /** Σ grad² of every piece of every parameter, whose borders follow from shapes alone; 0 for other ranks' pieces. */
  readonly squares: Tensor;
  private readonly factor: Tensor;
  /** What changes from update to update: learning rate and bias corrections. */
  private readonly rates: Tensor;
  private readonly measuring: RepeatedCalls;
  private readonly applying: RepeatedCalls;
  private readonly entries: readonly Entry[];

  /**
   * @param kernels - the backend
   * @param module - whose parameters it updates
   * @param options - see {@link AdamWOptions}
   */
  constructor(
    private readonly kernels: Kernels,
    module: Module,
    {
      moments: form = 'bf16',
      share = { rank: 0, ranks: 1 },
      sliceShare = share,
      whole,
    }: AdamWOptions = {},
  ) {
    this.region = new Region(kernels, 'optimizer');
    const own = [...module.parameters()];
    let place = 0;
    const places = new Map<string, number>();
    for (const { name, shape } of whole ??
      own.map(([name, { globalShape: shape }]) => ({ name, shape }))) {
      places.set(name, place);
      place += cutPieces(shape).length;
    }
    const placed = own.map(([name, parameter]) => {
      const { shape, slice, size } = parameter;
      const first = places.get(name);
      if (first === undefined)
        throw Object.assign(new Error(`whole lacks ${name}, which the module has`), {
          code: 'ERR_BALEEN_TENSOR_WHOLE',
          path: 'whole',
          hint: 'list every parameter of the whole model',
        });
      const all = cutPieces(parameter.globalShape);
      const begin = slice ? slice.start * (size / shape[0]) : 0;
      const pieces = all
        .map(({ start, count }, index) => ({ start: start - begin, count, place: first + index }))
        .filter(({ start }) => start >= 0 && start < size);
      return { name, parameter, pieces };
    });
    const owners = new Map<number, number>();
    for (const spread of [false, true]) {
      const shared = placed
        .filter(({ parameter: { slice } }) => (slice !== null) === spread)
        .flatMap(({ pieces }) => pieces);
      const { ranks } = spread ? sliceShare : share;
      ownersOf(
        shared.map(({ count }) => count),
        ranks,
      ).forEach((owner, index) => owners.set(shared[index].place, owner));
    }
    const dtype = form === 'bf16' ? 'bf16' : 'f32';
    this.entries = placed.map((entry) => {
      const { parameter, pieces } = entry;
      const { rank, ranks } = parameter.slice ? sliceShare : share;
      const ranges = Array.from({ length: ranks }, (_, owner): Piece => {
        const own = pieces.filter(({ place: at }) => owners.get(at) === owner);
        return {
          start: own.at(0)?.start ?? 0,
          count: own.reduce((sum, { count }) => sum + count, 0),
        };
      });
      const { start, count } = ranges[rank];
      if (count === 0) return { ...entry, rank, ranges, moments: null };
      const shape = count === parameter.size ? parameter.shape : [count];
      const moments = {
        start,
        m: emptyTensor(this.region, shape, dtype),
        v: emptyTensor(this.region, shape, dtype),
      };
      kernels.fill(moments.m, 0);
      kernels.fill(moments.v, 0);
      return { ...entry, rank, ranges, moments };
    });
    this.norm = emptyTensor(this.region, [1]);
    this.factor = emptyTensor(this.region, [1]);
    this.finite = emptyTensor(this.region, [1], 'i32');
    this.squares = emptyTensor(this.region, [place]);
    this.rates = emptyTensor(this.region, [3]);
    this.measuring = new RepeatedCalls(kernels);
    this.applying = new RepeatedCalls(kernels);
  }

  /** Every parameter, in order, and which rank updates what of it. */
  get shared(): readonly SharedParameter[] {
    return this.entries;
  }

  /** The moments by parameter name, those of parameters of which this rank updates something. */
  *moments(): IterableIterator<[string, Moments]> {
    for (const { name, moments } of this.entries) if (moments) yield [name, moments];
  }

  /**
   * Updates every parameter from its gradient and clears the gradients: {@link measure}, then {@link apply}. Where the
   * norm or the loss is not finite, no parameter and no moment changes and `finite` says so; the caller reads that flag
   * when it suits.
   * @param loss - [1], the step's loss; the same tensor at every update
   * @param settings - see {@link AdamWSettings}
   */
  update(loss: Tensor, settings: AdamWSettings): void {
    this.measure();
    this.apply(loss, settings);
  }

  /** Writes Σ grad² of this rank's pieces into {@link squares}. Ranks that share the update then add theirs up: of each
   * piece all but one are 0, so that no order of adding changes a bit. */
  measure(): void {
    const { kernels } = this;
    this.measuring.run(() => {
      kernels.fill(this.squares, 0);
      for (const { parameter, pieces, ranges, rank } of this.entries) {
        const { start: first, count: owned } = ranges[rank];
        for (const { start, count, place } of pieces)
          if (start >= first && start < first + owned)
            kernels.sumOfSquares(
              this.squares.rows(place, 1),
              elements(parameter.grad, start, count),
            );
      }
    }, []);
  }

  /**
   * Updates this rank's elements from their gradients and clears all gradients.
   * @param loss - see {@link update}; the same value on every rank
   * @param settings - see {@link AdamWSettings}
   */
  apply(loss: Tensor, settings: AdamWSettings): void {
    this.step += 1;
    const { learningRate, beta1, beta2 } = settings;
    const corrections = [beta1, beta2].map((beta) => 1 / (1 - beta ** this.step));
    writeTensor(this.rates, Float32Array.of(learningRate, ...corrections));
    this.applying.run(() => {
      this.enqueue(loss, settings);
    }, [loss, beta1, beta2, settings.epsilon, settings.weightDecay, settings.maxNorm]);
    for (const { parameter } of this.entries) parameter.version += 1;
  }

  private enqueue(loss: Tensor, settings: AdamWSettings): void {
    const { kernels } = this;
    kernels.clipFactor(this.norm, this.factor, this.finite, this.squares, loss, {
      maxNorm: settings.maxNorm,
    });
    for (const { parameter, moments } of this.entries) {
      if (moments) {
        const { start, m, v } = moments;
        const data = elements(parameter.data, start, m.size);
        const grad = elements(parameter.grad, start, m.size);
        const weightDecay = parameter.decay ? settings.weightDecay : 0;
        kernels.adamw(data, grad, m, v, this.factor, this.finite, this.rates, {
          ...settings,
          weightDecay,
        });
      }
      kernels.fill(parameter.grad, 0);
    }
  }
}

/** Consecutive elements of a tensor, whatever its shape. */
function elements(tensor: Tensor, start: number, count: number): Tensor {
  return tensor.reshape([tensor.size]).rows(start, count);
}
