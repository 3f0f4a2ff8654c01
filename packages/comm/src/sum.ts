// Sums over ranks, in their order: ((x₀ + x₁) + x₂) + …, each addition rounded, in blocks that stay in a core's cache.
import { type Kernels, loadKernels, type View, viewOf } from '@baleen/kernels';

import { bytesOf, type CommArray, type ElementType } from './arrays';
import { bytesAtOnce, copyBytes, goesPast } from './copy';

/** Bytes of what is summed at a time, at most: with the summands they fit a core's cache. */
const most = 2 ** 19;
/** Elements of the same: no type has smaller ones than BF16, which are summed in FP32. */
const block = most / 4;

/** Elements up to which a call of a kernel costs more than it saves. */
const few = 64;

/** What sums need, made with the first. */
interface Means {
  readonly kernels: Kernels;
  /** Memory for sums that are under way, and for BF16 summands decoded. */
  readonly sum: Readonly<Record<ElementType, CommArray>>;
  readonly decoded: View;
}

let means: Means | null = null;

function meansOf(): Means {
  if (means) return means;
  const memory = new ArrayBuffer(8 * block);
  means = {
    kernels: loadKernels(),
    sum: {
      f32: new Float32Array(memory, 0, block),
      i32: new Int32Array(memory, 0, block),
      f64: new Float64Array(memory, 0, block),
      // Beside the FP32 sum that is rounded to it.
      bf16: new Uint16Array(memory, 4 * block, block),
      u8: new Uint8Array(memory),
    },
    decoded: viewOf(new Float32Array(block)),
  };
  return means;
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
  const [{ length, byteLength }] = outs;
  if (length <= few && type !== 'bf16') {
    sumFew(outs, xs, type);
    return;
  }
  const { kernels, sum } = meansOf();
  const past = goesPast(byteLength * outs.length);
  // Summed into the first output, and copied from there to the others; past the caches all are copied to.
  const targets = (past ? outs : outs.slice(1)).map(bytesOf);
  const sumBlock = summerOf(xs, type);
  const width = byteLength / length;
  const step = bytesAtOnce(kernels, most) / 4;
  for (let from = 0; from < length; from += step) {
    const count = Math.min(step, length - from);
    const into = past ? sum[type].subarray(0, count) : outs[0].subarray(from, from + count);
    sumBlock(into, from);
    const bytes = bytesOf(into);
    for (const target of targets)
      copyBytes(target.subarray(from * width, (from + count) * width), bytes, past);
  }
}

/** The same without kernels; JavaScript rounds a sum of FP32 twice, which is as good as once. */
function sumFew(outs: readonly CommArray[], xs: readonly CommArray[], type: ElementType): void {
  const [out] = outs;
  if (xs.length === 1) bytesOf(out).set(bytesOf(xs[0]));
  else
    for (let i = 0; i < out.length; i += 1) {
      let sum = xs[0][i];
      for (let rank = 1; rank < xs.length; rank += 1) {
        sum += xs[rank][i];
        if (type === 'f32') sum = Math.fround(sum);
        else if (type === 'i32') sum |= 0;
      }
      out[i] = sum;
    }
  for (const other of outs.slice(1)) bytesOf(other).set(bytesOf(out));
}

/** Sums a block that begins at an element; the output may be one of the summands. */
type SumBlock = (out: CommArray, from: number) => void;

function summerOf(xs: readonly CommArray[], type: ElementType): SumBlock {
  // A single one is passed on bit for bit.
  if (xs.length === 1)
    return (out, from) => {
      bytesOf(out).set(bytesOf(xs[0].subarray(from, from + out.length)));
    };
  switch (type) {
    case 'f64':
      return summerOfF64(xs as readonly Float64Array[]);
    case 'bf16':
      return summerOfBf16(xs as readonly Uint16Array[]);
    default:
      return summerOf32Bits(xs as readonly (Float32Array | Int32Array)[], type);
  }
}

/** A block of a view. */
function blockOf(view: View, from: number, size: number): View {
  const width = view.dtype === 'bf16' ? 2 : 4;
  return { ...view, byteOffset: view.byteOffset + from * width, size };
}

function summerOf32Bits(xs: readonly (Float32Array | Int32Array)[], type: ElementType): SumBlock {
  const { kernels, sum } = meansOf();
  const views = xs.map(viewOf);
  const kept = viewOf(sum[type] as Float32Array | Int32Array);
  return (out, from) => {
    const size = out.length;
    let total = blockOf(views[0], from, size);
    for (let rank = 1; rank < views.length; rank += 1) {
      // The output may be a summand whose turn is still to come.
      const into =
        rank === views.length - 1
          ? viewOf(out as Float32Array | Int32Array)
          : blockOf(kept, 0, size);
      kernels.add(into, total, blockOf(views[rank], from, size));
      total = into;
    }
  };
}

/** In FP32, rounded once. */
function summerOfBf16(xs: readonly Uint16Array[]): SumBlock {
  const { kernels, sum, decoded } = meansOf();
  const views = xs.map(viewOf);
  const kept = viewOf(sum.f32 as Float32Array);
  return (out, from) => {
    const size = out.length;
    const [total, next] = [blockOf(kept, 0, size), blockOf(decoded, 0, size)];
    kernels.cast(total, blockOf(views[0], from, size));
    for (const view of views.slice(1)) {
      kernels.cast(next, blockOf(view, from, size));
      kernels.add(total, total, next);
    }
    kernels.cast(viewOf(out as Uint16Array), total);
  };
}

/** No kernel has FP64. */
function summerOfF64(xs: readonly Float64Array[]): SumBlock {
  const kept = meansOf().sum.f64 as Float64Array;
  const last = xs.length - 1;
  return (out, from) => {
    let [total] = xs.map((x) => x.subarray(from, from + out.length));
    for (let rank = 1; rank <= last; rank += 1) {
      const into = (rank === last ? out : kept) as Float64Array;
      const next = xs[rank].subarray(from, from + out.length);
      for (let i = 0; i < out.length; i += 1) into[i] = total[i] + next[i];
      total = into;
    }
  };
}
