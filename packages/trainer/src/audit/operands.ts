// The FP8 operands of a training step, seen where they are made: every quantisation is compared with the values it was
// made from, and a product that takes the codes says whose they are.
//
// What identifies a form is where its codes lie. Memory is used again, so an address is forgotten when something else is
// written there. A product with a weight's form is the forward product if it takes the weight transposed (y = x · Wᵀ: its
// other operand is the activation), else the input gradient (dx = dy · W: the gradient). What is quantised and taken by no
// product is kept for backward: outputs of a gated product, and what an activation was quantised from before.
import {
  type ErrorStatistics,
  emptyStatistics,
  errorStatistics,
  type QuantizedMatrix,
  scaleStatistics,
} from '@baleen/fp8';
import {
  type CodeType,
  cpuBuffer,
  f32,
  formatOf,
  i32,
  isScaled,
  type KernelCall,
  type Kernels,
  type Operand,
  type ScaledView,
  type Storage,
  unpack12,
  type View,
  viewOf,
} from '@baleen/kernels';

/** Which operand of a linear layer. */
export type OperandKind = 'activation' | 'weight' | 'gradient' | 'kept';

/** What quantising did to an operand, over all micro-batches of a step. */
export interface OperandAudit {
  /** The layer's weight, as the model names it. */
  layer: string;
  /** Its input, its weight, its output's gradient, or what is kept of a value beside it for backward. */
  operand: OperandKind;
  /** Of the codes. */
  format: CodeType;
  /** What shares a scale. */
  block: string;
  /** Finite values. */
  values: number;
  /** Infinities and NaN among the values. */
  nonFinite: number;
  /** Decibels; NaN where all is zero. */
  signalToNoise: number;
  /** Values beyond the format's largest. */
  saturated: number;
  /** Values other than zero that became zero. */
  underflowed: number;
  /** Its scales. */
  scales: {
    /** The smallest. */
    smallest: number;
    /** The median of the first micro-batch. */
    median: number;
    /** The largest. */
    largest: number;
  };
}

/** One quantisation. */
interface Form {
  format: OperandAudit['format'];
  block: string;
  /** Sums of squares of values and of errors. */
  signal: number;
  noise: number;
  statistics: ErrorStatistics;
  median: number;
  /** The weight it was made from. */
  weight: string | null;
  /** A product has taken it. */
  taken: boolean;
  /** Quantised before from the same values, and taken by no product so far. */
  before: Form | null;
}

/** Watches kernel calls. */
export class OperandObserver {
  private readonly ids = new WeakMap<Storage, number>();
  private nextId = 0;
  /** Forms by where their codes lie. */
  private readonly forms = new Map<string, Form>();
  /** The last form made from a plain value, by where that lies. */
  private readonly formOf = new Map<string, Form>();
  /** The weight whose product a plain value is. */
  private readonly products = new Map<string, string>();
  private readonly weights = new Map<string, string>();
  private readonly rows = new Map<string, { audit: OperandAudit; signal: number; noise: number }>();
  private seen = new Set<string>();

  /** @param kernels - plain ones, to compute again what kernels that quantise their results did not write */
  constructor(private readonly kernels: Kernels) {}

  /**
   * Names the weights.
   * @param parameters - names and where their values lie
   */
  name(parameters: Iterable<readonly [string, { data: View }]>): void {
    for (const [name, { data }] of parameters) this.weights.set(this.key(data), name);
  }

  /** A micro-batch begins: what is made again in its backward pass counts once. */
  beginMicroBatch(): void {
    this.seen = new Set();
  }

  /** What was seen, layer by layer in the order of their forward products. */
  results(): OperandAudit[] {
    return [...this.rows.values()].map(({ audit }) => audit);
  }

  /** Takes a call that has run. */
  see({ kernel, operands, sizes, written }: KernelCall): void {
    for (const view of written) {
      const key = this.key(view);
      this.forms.delete(key);
      this.formOf.delete(key);
      this.products.delete(key);
    }
    const [a, b, c, d, e] = operands as (Operand & View & ScaledView)[];
    const [rows, cols] = [Number(sizes.rows), Number(sizes.cols)];
    switch (kernel) {
      case 'quantize':
        this.quantized(a, f32(b), { sizes, from: b });
        return;
      case 'quantizeBoth':
        this.quantized(a, f32(c), { sizes: { rows, cols }, from: null });
        return;
      case 'rmsNormQuantize': {
        const y = new Float32Array(rows * cols);
        const epsilon = Number(sizes.epsilon);
        this.kernels.rmsNorm(viewOf(y), viewOf(new Float32Array(rows)), d, e, {
          rows,
          cols,
          epsilon,
        });
        this.quantized(a, y, { sizes: { rows, cols }, from: null });
        return;
      }
      case 'swigluQuantize': {
        const y = new Float32Array(rows * cols);
        this.kernels.swiglu(viewOf(y), b, c);
        this.quantized(a, y, { sizes: { rows, cols }, from: null });
        return;
      }
      case 'permute': {
        const form = this.forms.get(this.key(b));
        if (form) this.forms.set(this.key(a), form);
        return;
      }
      case 'gemm':
      case 'groupedGemm':
        if (isScaled(b) && isScaled(c)) this.product(a, b, c, sizes.transB === true);
        return;
      default:
    }
  }

  private quantized(
    out: ScaledView,
    x: Float32Array,
    about: { sizes: KernelCall['sizes']; from: View | null },
  ): void {
    const { sizes, from } = about;
    const form = measure(out, x, sizes);
    this.forms.set(this.key(out.codes), form);
    if (!from) return;
    const key = this.key(from);
    form.weight = this.weights.get(key) ?? null;
    const before = this.formOf.get(key);
    if (before && !before.taken) form.before = before;
    this.formOf.set(key, form);
    const product = this.products.get(key);
    if (product !== undefined) this.add(product, 'kept', form);
  }

  private product(out: View, x: ScaledView, weight: ScaledView, forward: boolean): void {
    const other = this.forms.get(this.key(x.codes));
    const own = this.forms.get(this.key(weight.codes));
    if (!other || !own) return;
    const { weight: layer } = own;
    if (layer === null) return;
    other.taken = true;
    own.taken = true;
    if (!forward) {
      this.add(layer, 'gradient', other);
      return;
    }
    this.add(layer, 'activation', other);
    this.add(layer, 'weight', own);
    if (other.before) this.add(layer, 'kept', other.before);
    this.products.set(this.key(out), layer);
  }

  private add(layer: string, operand: OperandKind, form: Form): void {
    const key = `${layer} ${operand}`;
    if (this.seen.has(key)) return;
    this.seen.add(key);
    const { format, block, statistics: s, median, signal, noise } = form;
    let row = this.rows.get(key);
    if (!row) {
      const scales = { smallest: Infinity, median, largest: 0 };
      const none = { values: 0, nonFinite: 0, signalToNoise: NaN, saturated: 0, underflowed: 0 };
      row = { audit: { layer, operand, format, block, ...none, scales }, signal: 0, noise: 0 };
      this.rows.set(key, row);
    } else if (operand === 'weight') return; // the same in every micro-batch
    const { audit } = row;
    row.signal += signal;
    row.noise += noise;
    audit.signalToNoise = 10 * Math.log10(row.signal / row.noise);
    audit.values += s.values;
    audit.nonFinite += s.nonFinite;
    audit.saturated += s.saturated;
    audit.underflowed += s.underflowed;
    audit.scales.smallest = Math.min(audit.scales.smallest, s.smallestScale);
    audit.scales.largest = Math.max(audit.scales.largest, s.largestScale);
  }

  /** Where a view begins, in words. */
  private key({ storage, byteOffset }: View): string {
    let id = this.ids.get(storage);
    if (id === undefined) {
      id = this.nextId;
      this.nextId += 1;
      this.ids.set(storage, id);
    }
    return `${id}:${byteOffset}`;
  }
}

const blocks = { '1,128': '1x128', '128,1': '128x1', '128,128': '128x128' } as const;

/** Compares a form with the values it was made from. */
function measure(out: ScaledView, x: Float32Array, sizes: KernelCall['sizes']): Form {
  const rows = Number(sizes.rows);
  const cols = Number(sizes.cols);
  const stack = Number(sizes.stack ?? 1);
  const format = formatOf(out);
  const block = blocks[`${out.blockRows},${out.blockCols}` as keyof typeof blocks];
  const bytes = new Uint8Array(
    cpuBuffer(out.codes),
    out.codes.byteOffset,
    format === 'e5m6' ? Math.ceil(1.5 * x.length) : x.length,
  );
  const codes = format === 'e5m6' ? unpack12(bytes, { count: x.length }) : bytes;
  const scales = f32(out.scales);
  const total = emptyStatistics();
  let signal = 0;
  let noise = 0;
  let used = 0;
  // Blocks of 128 rows start anew at every row group: each is a matrix of its own.
  const borders = sizes.offsets ? i32(sizes.offsets as View) : Int32Array.of(0, stack * rows);
  for (let g = 0; g + 1 < borders.length; g += 1) {
    const [first, last] = [borders[g], borders[g + 1]];
    const own = sizes.offsets ? { rows: last - first, cols } : { rows, cols, stack };
    const count =
      Math.ceil(own.rows / out.blockRows) *
      Math.ceil(cols / out.blockCols) *
      (sizes.offsets ? 1 : stack);
    const q = {
      ...own,
      format,
      block,
      codes: codes.subarray(first * cols, last * cols),
      scales: scales.subarray(used, used + count),
    } as QuantizedMatrix;
    used += count;
    const values = x.subarray(first * cols, last * cols);
    const part = errorStatistics(values, q);
    const energy = energyOf(values);
    signal += energy;
    if (energy > 0) noise += energy / 10 ** (part.signalToNoise / 10);
    total.values += part.values;
    total.nonFinite += part.nonFinite;
    total.saturated += part.saturated;
    total.underflowed += part.underflowed;
    total.smallestScale = Math.min(total.smallestScale, part.smallestScale);
    total.largestScale = Math.max(total.largestScale, part.largestScale);
  }
  const { median } = scaleStatistics(scales.subarray(0, used));
  const plain = { weight: null, taken: false, before: null };
  return { format, block, signal, noise, statistics: total, median, ...plain };
}

/** Σ x² of the finite values. */
function energyOf(values: Float32Array): number {
  let sum = 0;
  for (const value of values) if (Number.isFinite(value)) sum += value * value;
  return sum;
}
