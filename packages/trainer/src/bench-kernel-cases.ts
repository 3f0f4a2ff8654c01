// What `bench kernels` measures: each case is one kernel, or the kernels that make up one product of a linear layer, at a
// shape that training has, with the work it counts.
//
// Legend: m, n, k of a product [m, k] · [k, n]; R rows (tokens), B sequences, L tokens of a sequence, H heads, Dq width of
// queries and keys, Dv of values, E experts.
import {
  hopper,
  type Kernels,
  type Operand,
  type Summation,
  summationSizes,
} from '@baleen/kernels';
import type { ScaledTensor, Tensor } from '@baleen/tensor';

import type { KernelCase } from './bench-case';
import { latentCases } from './bench-latent-cases';
import { block, Operands } from './bench-operands';
import { streamingCases } from './bench-streaming-cases';

/** Rows of a micro-batch of `small`: 8 sequences of 256 tokens. */
const rows = 2048;
/** `small`'s linear layers: [in, out]. */
const linears: readonly (readonly [number, number])[] = [
  [256, 128],
  [256, 160],
  [128, 512],
  [256, 256],
  [256, 768],
  [768, 256],
  [128, 256],
];

/**
 * The cases.
 * @param scale - rows of the streaming kernels, 1 for 64 MiB of FP32; and the caches of decoding, 1 for 256 MiB
 * @returns what to measure
 */
export function kernelCases(scale = 1): KernelCase[] {
  return [
    square('gemm-fp32', 1024),
    square('gemm-bf16', 1024),
    square('gemm-fp8', 1024),
    square('gemm-fp8', 1024, ['-promotion-32', { promotion: 32 }]),
    square('gemm-fp8', 1024, ['-hopper', { tensorCore: hopper }]),
    ...linears.flatMap(([inWidth, outWidth]) => linear(inWidth, outWidth)),
    ...grouped(16, 8192, 256, 128),
    ...attention(8, 256, 8, 64, 32),
    ...attention(1, 4096, 8, 64, 32),
    ...latentCases(scale),
    ...streamingCases(Math.max(1, Math.round(16384 * scale))),
  ];
}

/** c = a · bᵀ, all of size n, summed in V3's way or one that adds to the name: [m, n, k]. */
function square(
  kernel: 'gemm-fp32' | 'gemm-bf16' | 'gemm-fp8',
  n: number,
  [way, summation]: readonly [string, Summation] = ['', {}],
): KernelCase {
  return {
    kernel: kernel + way,
    shape: [n, n, n],
    of: kernel === 'gemm-fp32' ? 'fp32' : 'bf16Dot',
    work: 2 * n ** 3,
    everyThread: true,
    prepare: (kernels) => {
      const make = new Operands(kernels);
      const operand = (blockRows: number): Operand =>
        kernel === 'gemm-fp8'
          ? make.fp8([n, n], blockRows, block)
          : kernel === 'gemm-bf16'
            ? make.bf16(n, n)
            : make.f32(n, n);
      const [a, b, c] = [operand(1), operand(block), make.f32(n, n)];
      return () => {
        kernels.gemm(c, a, b, { m: n, n, k: n, transB: true, ...summationSizes(summation) });
      };
    },
  };
}

/**
 * The three products of an FP8 linear layer, each with the quantisation it would need alone: [R, in, out]. In training
 * one reading of the gradient (`quantize-both`) serves the second and the third.
 */
function linear(inWidth: number, outWidth: number): KernelCase[] {
  const shared = {
    shape: [rows, inWidth, outWidth],
    of: 'bf16Dot' as const,
    work: 2 * rows * inWidth * outWidth,
    everyThread: false,
  };
  const x = { rows, cols: inWidth };
  const y = { rows, cols: outWidth };
  return [
    {
      ...shared,
      kernel: 'linear-fp8-forward',
      prepare: (kernels) => {
        const make = new Operands(kernels);
        const [input, codes] = [make.f32(rows, inWidth), make.scaled([rows, inWidth], 1, block)];
        const [weight, out] = [
          make.fp8([outWidth, inWidth], block, block),
          make.f32(rows, outWidth),
        ];
        return () => {
          kernels.quantize(codes, input, x);
          kernels.gemm(out, codes, weight, { m: rows, n: outWidth, k: inWidth, transB: true });
        };
      },
    },
    {
      ...shared,
      kernel: 'linear-fp8-input-gradient',
      prepare: (kernels) => {
        const make = new Operands(kernels);
        const [grad, codes] = [make.f32(rows, outWidth), make.scaled([rows, outWidth], 1, block)];
        const [weight, out] = [
          make.fp8([outWidth, inWidth], block, block),
          make.f32(rows, inWidth),
        ];
        return () => {
          kernels.quantize(codes, grad, y);
          kernels.gemm(out, codes, weight, { m: rows, n: inWidth, k: outWidth });
        };
      },
    },
    {
      ...shared,
      kernel: 'linear-fp8-weight-gradient',
      prepare: (kernels) => {
        const make = new Operands(kernels);
        const [grad, gradColumns] = [
          make.f32(rows, outWidth),
          make.scaled([rows, outWidth], block, 1),
        ];
        const [input, inputColumns] = [
          make.fp8([rows, inWidth], 1, block),
          make.scaled([rows, inWidth], block, 1),
        ];
        const out = make.f32(outWidth, inWidth);
        return () => {
          kernels.quantize(gradColumns, grad, y);
          kernels.requantize(inputColumns, input, x);
          kernels.gemm(out, gradColumns, inputColumns, {
            m: outWidth,
            n: inWidth,
            k: rows,
            transA: true,
            accumulate: true,
          });
        };
      },
    },
  ];
}

/** Rows of experts that differ as a router's do: the first gets almost twice the mean, the last next to nothing. */
function unevenOffsets(experts: number, total: number): number[] {
  const offsets = [0];
  for (let e = 1; e < experts; e += 1) {
    const share = e / experts;
    offsets.push(Math.round(total * share * (2 - share)));
  }
  return [...offsets, total];
}

/** Products of experts: [E, R, in, out]. */
function grouped(experts: number, routed: number, inWidth: number, outWidth: number): KernelCase[] {
  const shared = {
    shape: [experts, routed, inWidth, outWidth],
    of: 'bf16Dot' as const,
    work: 2 * routed * inWidth * outWidth,
    everyThread: true,
  };
  return [
    {
      ...shared,
      kernel: 'grouped-gemm-fp8',
      prepare: (kernels) => {
        const make = new Operands(kernels);
        const offsets = make.i32(unevenOffsets(experts, routed));
        const x = make.fp8([routed, inWidth], 1, block);
        const weight = make.fp8([experts, outWidth, inWidth], block, block);
        const out = make.f32(routed, outWidth);
        return () => {
          kernels.groupedGemm(out, x, weight, offsets, {
            groups: experts,
            rows: routed,
            n: outWidth,
            k: inWidth,
            transB: true,
          });
        };
      },
    },
    {
      ...shared,
      kernel: 'grouped-gemm-fp8-weight-gradient',
      prepare: (kernels) => {
        const make = new Operands(kernels);
        const offsets = make.i32(unevenOffsets(experts, routed));
        const columns = (width: number): ScaledTensor => {
          const scaleRows = Math.floor(routed / block) + experts;
          const out = make.scaled([routed, width], block, 1, scaleRows);
          kernels.quantize(out, make.f32(routed, width), {
            rows: routed,
            cols: width,
            offsets,
            groups: experts,
          });
          return out;
        };
        const [grad, x] = [columns(outWidth), columns(inWidth)];
        const out = make.f32(experts, outWidth, inWidth);
        return () => {
          kernels.groupedGemmWeight(out, grad, x, offsets, {
            groups: experts,
            rows: routed,
            m: outWidth,
            n: inWidth,
            accumulate: true,
          });
        };
      },
    },
  ];
}

/** Causal attention, operations of the pairs that see each other: [B, L, H, Dq, Dv]. */
function attention(
  batch: number,
  length: number,
  heads: number,
  queryWidth: number,
  valueWidth: number,
): KernelCase[] {
  const pairs = (batch * heads * length * (length + 1)) / 2;
  const sizes = {
    batch,
    queries: length,
    keys: length,
    heads,
    queryWidth,
    valueWidth,
    scale: queryWidth ** -0.5,
  };
  const shared = {
    shape: [batch, length, heads, queryWidth, valueWidth],
    of: 'bf16Dot' as const,
    everyThread: true,
  };
  const operands = (kernels: Kernels) => {
    const make = new Operands(kernels);
    const wide = (): Tensor => make.bf16(batch * length, heads, queryWidth);
    const out = make.f32(batch * length, heads, valueWidth);
    const lse = make.f32(batch, heads, length);
    const [q, k, v] = [wide(), wide(), make.bf16(batch * length, heads, valueWidth)];
    const forward = (): void => {
      kernels.attention(out, lse, q, k, v, sizes);
    };
    return { make, out, lse, q, k, v, forward };
  };
  return [
    {
      ...shared,
      kernel: 'attention-forward',
      // Scores, and probabilities times values.
      work: 2 * pairs * (queryWidth + valueWidth),
      prepare: (kernels) => operands(kernels).forward,
    },
    {
      ...shared,
      kernel: 'attention-backward',
      // Scores again, dP and dV over the values' width, dQ and dK over the queries'.
      work: 2 * pairs * (3 * queryWidth + 2 * valueWidth),
      prepare: (kernels) => {
        const { make, out, lse, q, k, v, forward } = operands(kernels);
        forward();
        const [dq, dk] = [make.f32(...q.shape), make.f32(...k.shape)];
        const [dv, grad] = [make.f32(...v.shape), make.f32(...out.shape)];
        return () => {
          kernels.attentionBackward(dq, dk, dv, grad, q, k, v, out, lse, sizes);
        };
      },
    },
  ];
}
