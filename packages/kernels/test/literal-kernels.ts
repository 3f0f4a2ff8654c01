// The literal contract behind the interface of kernels, so that the cases can run on it. Backward kernels are not here:
// gradients.test.ts compares those with differences of the forward ones.
import {
  bf16,
  bytesPerElement,
  cpuBuffer,
  createCpuStorage,
  e4m3,
  f32,
  i32,
  isScaled,
  type KernelName,
  type Kernels,
  type Operand,
  type ScaledView,
  type View,
} from '@baleen/kernels';

import * as literal from './literal';

const word = new DataView(new ArrayBuffer(4));

function fromBf16(pattern: number): number {
  word.setUint32(0, pattern * 65536);
  return word.getFloat32(0);
}

/** The nearer of the two BF16 neighbours of an FP32 value; the even one of a tie. */
function toBf16(x: number): number {
  word.setFloat32(0, x);
  const low = word.getUint16(0);
  if (Number.isNaN(x)) return 0x7fc0;
  if (!Number.isFinite(Math.fround(x))) return low;
  // Beyond the largest value the next pattern, infinity, counts as 2¹²⁸.
  const high = (low & 0x7fff) === 0x7f7f ? 2 ** 128 : Math.abs(fromBf16(low + 1));
  const [below, above] = [Math.abs(x) - Math.abs(fromBf16(low)), high - Math.abs(x)];
  return below < above || (below === above && low % 2 === 0) ? low : low + 1;
}

function fromE4m3(code: number): number {
  const magnitude = code % 128 === 127 ? NaN : literal.e4m3Magnitudes[code % 128];
  return code >= 128 ? -magnitude : magnitude;
}

function toE4m3(x: number): number {
  if (Number.isNaN(x)) return 0x7f;
  const sign = x < 0 || Object.is(x, -0) ? 128 : 0;
  return sign + literal.nearest(literal.e4m3Magnitudes, Math.abs(x));
}

/** A view's numbers. */
function read(view: View): number[] {
  if (view.dtype === 'bf16') return Array.from(bf16(view), fromBf16);
  if (view.dtype === 'e4m3') return Array.from(e4m3(view), fromE4m3);
  return Array.from(view.dtype === 'f32' ? f32(view) : i32(view));
}

/** Writes numbers, rounded to the view's type. */
function write(view: View, values: readonly number[]): void {
  if (view.dtype === 'bf16') bf16(view).set(values.map((x) => toBf16(Math.fround(x))));
  else if (view.dtype === 'f32') f32(view).set(values);
  else i32(view).set(values);
}

function grid<T>(rows: number, cols: number, value: (r: number, c: number) => T): T[] {
  return Array.from({ length: rows * cols }, (_, i) => value(Math.floor(i / cols), i % cols));
}

/** Scale of element (r, c) of a matrix with `cols` columns. */
function scaleAt(
  x: ScaledView,
  scales: readonly number[],
  cols: number,
  r: number,
  c: number,
): number {
  const perRow = Math.ceil(cols / x.blockCols);
  return scales[Math.floor(r / x.blockRows) * perRow + Math.floor(c / x.blockCols)];
}

/** An operand as element and scale of (row, col), from row `first` of the codes and `scaleRow` of the scales on. */
function reader(x: Operand, cols: number, first = 0, scaleRow = 0) {
  const values = read(isScaled(x) ? x.codes : x);
  const scales = isScaled(x) ? read(x.scales) : [];
  return {
    at: (r: number, c: number): number => values[(first + r) * cols + c],
    scale: (r: number, c: number): number =>
      isScaled(x) ? scaleAt(x, scales, cols, scaleRow * x.blockRows + r, c) : 1,
  };
}

/** op(a) · op(b), added to c where asked. */
function product(
  old: readonly number[],
  kind: 'plain' | 'bf16' | 'scaled',
  [m, n, k]: readonly [number, number, number],
  a: ReturnType<typeof reader>,
  b: ReturnType<typeof reader>,
  transA: boolean,
  transB: boolean,
  accumulate: boolean,
): number[] {
  return grid(m, n, (i, j) => {
    const left = (kk: number): number => (transA ? a.at(kk, i) : a.at(i, kk));
    const right = (kk: number): number => (transB ? b.at(j, kk) : b.at(kk, j));
    const scale = (block: number): number => {
      const kk = block * 128;
      return Math.fround(
        (transA ? a.scale(kk, i) : a.scale(i, kk)) * (transB ? b.scale(j, kk) : b.scale(kk, j)),
      );
    };
    const sum =
      kind === 'plain'
        ? literal.element(k, left, right)
        : literal.exactElement(k, left, right, kind === 'scaled' ? scale : null);
    return accumulate ? old[i * n + j] + sum : sum;
  });
}

function kindOf(x: Operand): 'plain' | 'bf16' | 'scaled' {
  return isScaled(x) ? 'scaled' : x.dtype === 'bf16' ? 'bf16' : 'plain';
}

/** Blocks of a matrix as lists of [row, col], in the order of their scales. */
function blocks(
  rows: number,
  cols: number,
  blockRows: number,
  blockCols: number,
  borders: number[],
) {
  const list: [number, number][][] = [];
  for (let g = 0; g + 1 < borders.length; g += 1)
    for (let r0 = borders[g]; r0 < borders[g + 1]; r0 += blockRows)
      for (let c0 = 0; c0 < cols; c0 += blockCols)
        list.push(
          grid(blockRows, blockCols, (r, c): [number, number] => [r0 + r, c0 + c]).filter(
            ([r, c]) => r < Math.min(rows, borders[g + 1]) && c < cols,
          ),
        );
  return list;
}

function quantizeTo(
  out: ScaledView,
  x: readonly number[],
  sizes: Parameters<Kernels['quantize']>[2],
): void {
  const { cols, powerOfTwo = false, offsets, stack = 1 } = sizes;
  const rows = sizes.rows * stack;
  const borders = offsets
    ? read(offsets)
    : Array.from({ length: stack + 1 }, (_, i) => i * sizes.rows);
  const [codes, scales] = [e4m3(out.codes), f32(out.scales)];
  blocks(rows, cols, out.blockRows, out.blockCols, borders).forEach((block, index) => {
    const magnitudes = block.map(([r, c]) => Math.abs(x[r * cols + c]));
    const amax = Math.max(Math.fround(1e-4), ...magnitudes.filter((v) => !Number.isNaN(v)));
    let scale = Math.fround(amax / 448);
    if (powerOfTwo && Number.isFinite(scale)) {
      let power = 1;
      while (power < scale) power *= 2;
      while (power / 2 >= scale) power /= 2;
      scale = power;
    }
    scales[index] = scale;
    for (const [r, c] of block) codes[r * cols + c] = toE4m3(Math.fround(x[r * cols + c] / scale));
  });
}

function decoded(x: ScaledView, rows: number, cols: number): number[] {
  const { at, scale } = reader(x, cols);
  return grid(rows, cols, (r, c) => Math.fround(at(r, c) * scale(r, c)));
}

/** The kernels that the literal contract has. */
export const literalKernels: Partial<Kernels> & Pick<Kernels, 'createStorage'> = {
  createStorage: createCpuStorage,
  fill: (out, value) => {
    write(out, new Array<number>(out.size).fill(value));
  },
  copy: (out, x) => {
    const bytes = (v: View): Uint8Array =>
      new Uint8Array(cpuBuffer(v), v.byteOffset, v.size * bytesPerElement[v.dtype]);
    bytes(out).forEach((_, i, target) => {
      target[i] = bytes(x)[i];
    });
  },
  cast: (out, x) => {
    write(out, read(x));
  },
  copyStrided: (out, x, s) => {
    const [from, to] = [read(x), read(out)];
    for (let r = 0; r < s.rows; r += 1)
      for (let c = 0; c < s.cols; c += 1) {
        const at = (s.outOffset ?? 0) + r * s.outStride + c;
        to[at] = from[(s.xOffset ?? 0) + r * s.xStride + c] + (s.accumulate ? to[at] : 0);
      }
    write(out, to);
  },
  add: (out, a, b) => {
    const [left, right] = [read(a), read(b)];
    write(
      out,
      left.map((x, i) => x + right[i]),
    );
  },
  scale: (out, x, factor) => {
    write(
      out,
      read(x).map((v) => v * Math.fround(factor)),
    );
  },
  gemm: (c, a, b, { m, n, k, transA = false, transB = false, accumulate = false }) => {
    const [left, right] = [reader(a, transA ? m : k), reader(b, transB ? k : n)];
    write(c, product(read(c), kindOf(a), [m, n, k], left, right, transA, transB, accumulate));
  },
  groupedGemm: (c, a, b, offsets, { groups, n, k, transB = false, accumulate = false }) => {
    const [starts, out] = [read(offsets), read(c)];
    const bRows = transB ? n : k;
    for (let g = 0; g < groups; g += 1) {
      const rows = starts[g + 1] - starts[g];
      const left = reader(a, k, starts[g], starts[g]);
      const scaleRow = isScaled(b) ? g * Math.ceil(bRows / b.blockRows) : 0;
      const right = reader(b, transB ? k : n, g * bRows, scaleRow);
      const old = out.slice(starts[g] * n);
      const shape = [rows, n, k] as const;
      const own = product(old, kindOf(a), shape, left, right, false, transB, accumulate);
      out.splice(starts[g] * n, own.length, ...own);
    }
    write(c, out);
  },
  groupedGemmWeight: (c, a, b, offsets, { groups, m, n, accumulate = false }) => {
    const [starts, old] = [read(offsets), read(c)];
    let scaleRow = 0;
    const out: number[] = [];
    for (let g = 0; g < groups; g += 1) {
      const rows = starts[g + 1] - starts[g];
      const [left, right] = [reader(a, m, starts[g], scaleRow), reader(b, n, starts[g], scaleRow)];
      const own = old.slice(g * m * n);
      out.push(...product(own, kindOf(a), [m, n, rows], left, right, true, false, accumulate));
      scaleRow += Math.ceil(rows / 128);
    }
    write(c, out);
  },
  quantize: (out, x, sizes) => {
    quantizeTo(out, read(x), sizes);
  },
  quantizeBoth: (rowwise, columnwise, x, sizes) => {
    const { rows, cols, powerOfTwo = false } = sizes;
    quantizeTo(rowwise, read(x), { rows, cols, powerOfTwo });
    quantizeTo(columnwise, read(x), sizes);
  },
  requantize: (out, x, sizes) => {
    quantizeTo(out, decoded(x, sizes.rows, sizes.cols), sizes);
  },
  dequantize: (out, x, { rows, cols }) => {
    write(out, decoded(x, rows, cols));
  },
  rmsNorm: (y, rstd, x, weight, { rows, cols, epsilon }) => {
    const [values, w] = [read(x), read(weight)];
    const at = (r: number, c: number): number => values[r * cols + c];
    const result = literal.rmsNorm(rows, cols, epsilon, at, (c) => w[c]);
    write(y, result.y);
    write(rstd, result.rstd);
  },
  swiglu: (out, gate, up) => {
    const ups = read(up);
    write(
      out,
      read(gate).map((g, i) => literal.swiglu(g, ups[i])),
    );
  },
  rope: (out, x, cos, sin, s) => {
    const [values, result, c, d] = [read(x), read(out), read(cos), read(sin)];
    const half = s.width / 2;
    for (let r = 0; r < s.rows; r += 1)
      for (let i = 0; i < half; i += 1) {
        const table = ((s.start ?? 0) + (r % s.sequence)) * half + i;
        const angle = (s.inverse ? -1 : 1) * Math.atan2(d[table], c[table]);
        const sum = [0, 0];
        for (let h = 0; h < s.heads; h += 1) {
          const from = (s.xOffset ?? 0) + r * s.xStride + h * s.xHeadStride + 2 * i;
          const [re, im] = [values[from], values[from + 1]];
          // (re + i·im) in polar form, turned.
          const [length, turned] = [Math.hypot(re, im), Math.atan2(im, re) + angle];
          const pair = [length * Math.cos(turned), length * Math.sin(turned)];
          for (const part of [0, 1]) {
            sum[part] += pair[part];
            const head = s.sumHeads ? 0 : h * s.outHeadStride;
            result[(s.outOffset ?? 0) + r * s.outStride + head + 2 * i + part] = s.sumHeads
              ? sum[part]
              : pair[part];
          }
        }
      }
    write(out, result);
  },
  attention: (out, lse, q, k, v, sizes) => {
    const round = (p: number): number => (q.dtype === 'bf16' ? fromBf16(toBf16(p)) : p);
    const result = literal.attention(sizes, read(q), read(k), read(v), round);
    write(out, result.out);
    write(lse, result.lse);
  },
  embedding: (out, weight, ids, { rows, cols }) => {
    const [table, index] = [read(weight), read(ids)];
    write(
      out,
      grid(rows, cols, (r, c) => table[index[r] * cols + c]),
    );
  },
  embeddingBackward: (dweight, dout, ids, { rows, cols, vocab }) => {
    const [old, grad, index] = [read(dweight), read(dout), read(ids)];
    const sums = grid(vocab, cols, (id, c) => {
      let sum = 0;
      for (let r = 0; r < rows; r += 1)
        if (index[r] === id) sum = Math.fround(sum + grad[r * cols + c]);
      return sum;
    });
    write(
      dweight,
      old.map((x, i) => x + sums[i]),
    );
  },
  sigmoid: (out, x) => {
    write(out, read(x).map(literal.sigmoid));
  },
  topK: (indices, scores, bias, { tokens, experts, k, groups, groupsKept }) => {
    const [values, shifts] = [read(scores), bias ? read(bias) : []];
    write(
      indices,
      grid(tokens, 1, (t) => {
        const row = values.slice(t * experts, (t + 1) * experts);
        const biased = row.map((s, e) => (bias ? Math.fround(s + shifts[e]) : s));
        return literal.topK(biased, k, groups, groupsKept);
      }).flat(),
    );
  },
  gateWeights: (weights, scores, indices, { tokens, experts, k, scaling, normalize }) => {
    const [values, chosen] = [read(scores), read(indices)];
    write(
      weights,
      grid(tokens, 1, (t) =>
        literal.gateWeights(
          values.slice(t * experts, (t + 1) * experts),
          chosen.slice(t * k, (t + 1) * k),
          scaling,
          normalize,
        ),
      ).flat(),
    );
  },
  route: (counts, offsets, slotOfRow, rowOfSlot, indices, { experts }) => {
    const chosen = read(indices);
    const order = chosen.map((_, slot) => slot).sort((a, b) => chosen[a] - chosen[b] || a - b);
    const before = (e: number): number => chosen.filter((other) => other < e).length;
    write(
      counts,
      grid(experts, 1, (e) => before(e + 1) - before(e)),
    );
    write(offsets, grid(experts + 1, 1, before));
    write(slotOfRow, order);
    write(
      rowOfSlot,
      chosen.map((_, slot) => order.indexOf(slot)),
    );
  },
  permute: (out, x, slotOfRow, { rows, k, cols }) => {
    const slots = read(slotOfRow);
    const width = cols * bytesPerElement[x.dtype];
    const target = new Uint8Array(cpuBuffer(out), out.byteOffset);
    const source = new Uint8Array(cpuBuffer(x), x.byteOffset);
    for (let r = 0; r < rows; r += 1)
      for (let i = 0; i < width; i += 1)
        target[r * width + i] = source[Math.floor(slots[r] / k) * width + i];
  },
  unpermute: (out, y, rowOfSlot, weights, { tokens, k, cols, accumulate }) => {
    const [old, values, rows] = [read(out), read(y), read(rowOfSlot)];
    const w = weights && read(weights);
    write(
      out,
      grid(tokens, cols, (t, c) => {
        let sum = 0;
        for (let j = 0; j < k; j += 1)
          sum += (w ? w[t * k + j] : 1) * values[rows[t * k + j] * cols + c];
        return accumulate ? old[t * cols + c] + sum : sum;
      }),
    );
  },
  updateRouterBias: (bias, counts, { experts, speed }) => {
    const count = read(counts);
    const mean = count.reduce((sum, c) => sum + c, 0) / experts;
    const step = (c: number): number => (c > mean ? -speed : c < mean ? speed : 0);
    write(
      bias,
      read(bias).map((b, e) => b + Math.fround(step(count[e]))),
    );
  },
  sum: (out, x) => {
    write(out, [read(x).reduce((sum, v) => sum + v, 0)]);
  },
  sumOfSquares: (out, x) => {
    write(out, [read(x).reduce((sum, v) => sum + v * v, 0)]);
  },
  clipFactor: (norm, factor, finite, squares, loss, { maxNorm }) => {
    const total = Math.sqrt(read(squares).reduce((sum, v) => sum + v, 0));
    write(norm, [total]);
    write(factor, [Math.min(1, maxNorm / (total + 1e-6))]);
    write(finite, [Number.isFinite(total) && Number.isFinite(read(loss)[0]) ? 1 : 0]);
  },
  adamw: (parameter, gradient, m, v, factor, finite, rates, s) => {
    if (read(finite)[0] === 0) return;
    const [p, grad, first, second] = [parameter, gradient, m, v].map(read);
    const [learningRate, correction1, correction2] = read(rates);
    const g = grad.map((x) => x * read(factor)[0]);
    const m1 = first.map((x, i) => s.beta1 * x + (1 - s.beta1) * g[i]);
    const v1 = second.map((x, i) => s.beta2 * x + (1 - s.beta2) * g[i] ** 2);
    write(m, m1);
    write(v, v1);
    write(
      parameter,
      p.map((x, i) => {
        const root = Math.sqrt(v1[i] * correction2) + s.epsilon;
        const update = (m1[i] * correction1) / root;
        return x - learningRate * update - learningRate * s.weightDecay * x;
      }),
    );
  },
};

/** Kernels that gradients.test.ts covers instead. */
export const byGradients: readonly KernelName[] = [
  'rmsNormBackward',
  'swigluBackward',
  'sigmoidBackward',
  'attentionBackward',
  'linearCrossEntropy',
  'gateWeightsBackward',
  'balanceLoss',
  'unpermuteBackward',
];
