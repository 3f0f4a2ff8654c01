// Sums over ranks, in their order: ((x₀ + x₁) + x₂) + …, each addition rounded, in blocks that stay in a core's cache.
import { type Kernels, loadKernels, viewOf } from '@baleen/kernels';

import { bytesOf, type CommArray, type ElementType } from './arrays';

/** Elements summed at a time. */
const block = 16384;

/** What sums need, made with the first. */
interface Means {
  readonly kernels: Kernels;
  readonly f32: Float32Array;
  readonly i32: Int32Array;
  readonly f64: Float64Array;
  readonly decoded: Float32Array;
}

let means: Means | null = null;

function meansOf(): Means {
  means ??= {
    kernels: loadKernels(),
    f32: new Float32Array(block),
    i32: new Int32Array(block),
    f64: new Float64Array(block),
    decoded: new Float32Array(block),
  };
  return means;
}

type Add = (out: CommArray, a: CommArray, b: CommArray) => void;

/** No kernel has FP64. */
function addF64(out: Float64Array, a: Float64Array, b: Float64Array): void {
  for (let i = 0; i < out.length; i += 1) out[i] = a[i] + b[i];
}

/**
 * Adds arrays of one type and size.
 * @param outs - each gets the sum; they may be summands
 * @param xs - summands in the order of ranks
 * @param type - of all
 */
export function sumInOrder(
  outs: readonly CommArray[],
  xs: readonly CommArray[],
  type: ElementType,
): void {
  const add = adderOf(type);
  const { length } = outs[0];
  for (let from = 0; from < length; from += block) {
    const to = Math.min(from + block, length);
    const sum = outs[0].subarray(from, to);
    sumBlock(
      sum,
      xs.map((x) => x.subarray(from, to)),
      type,
      add,
    );
    for (const out of outs.slice(1)) bytesOf(out.subarray(from, to)).set(bytesOf(sum));
  }
}

/** How two arrays of a type are added. */
function adderOf(type: ElementType): Add {
  if (type === 'f64') return addF64 as Add;
  const { kernels } = meansOf();
  type Added = Float32Array | Int32Array;
  return (out, a, b) => {
    kernels.add(viewOf(out as Added), viewOf(a as Added), viewOf(b as Added));
  };
}

/** The sum of a block, which may be one of the summands; a single one is passed on bit for bit. */
function sumBlock(out: CommArray, xs: readonly CommArray[], type: ElementType, add: Add): void {
  const last = xs.length - 1;
  if (last === 0) {
    bytesOf(out).set(bytesOf(xs[0]));
    return;
  }
  if (type === 'bf16') {
    sumBf16(out as Uint16Array, xs as readonly Uint16Array[], add);
    return;
  }
  const kept = meansOf()[type as 'f32' | 'i32' | 'f64'].subarray(0, out.length);
  let [sum] = xs;
  for (let rank = 1; rank <= last; rank += 1) {
    // The output may be a summand whose turn is still to come.
    const into = rank === last ? out : kept;
    add(into, sum, xs[rank]);
    sum = into;
  }
}

/** In FP32, rounded once. */
function sumBf16(out: Uint16Array, xs: readonly Uint16Array[], add: Add): void {
  const { kernels, f32, decoded } = meansOf();
  const [sum, next] = [f32, decoded].map((array) => array.subarray(0, out.length));
  kernels.cast(viewOf(sum), viewOf(xs[0]));
  for (const x of xs.slice(1)) {
    kernels.cast(viewOf(next), viewOf(x));
    add(sum, sum, next);
  }
  kernels.cast(viewOf(out), viewOf(sum));
}
