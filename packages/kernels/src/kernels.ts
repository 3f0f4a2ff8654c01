// The contract of dense compute: every kernel that training needs, with its shapes and its arithmetic. The kernels
// themselves are in contract/, a file a family; this is their door, and says what holds for all.
// Three implementations stand behind it: `reference` (readable TypeScript), `native` (C++ SIMD) and `null` (shapes only).
//
// Legend of sizes: m, n, k of a product; T tokens (rows); E experts; K experts a token; R = T·K routed rows;
// H hidden width; V vocabulary. All matrices are row-major and contiguous unless strides are given.
//
// Rules that hold for all of them:
// - Outputs come first, sizes last. `accumulate` adds the finished result to what the output holds (one addition
//   an element), so that two contributions give the same bits in either order.
// - A row's result never depends on how many rows are beside it, nor any result on the number of threads.
// - FP32 memory, FP32 accumulation. Matrix products of BF16 or FP8 operands have one exact definition (see `gemm`)
//   and are bit-identical everywhere, as are casts, (de)quantisation, permutation and top-k.
import type { AttentionKernels } from './contract/attention';
import type { LatentKernels } from './contract/latents';
import type { LayerKernels } from './contract/layers';
import type { LossKernels } from './contract/loss';
import type { MatrixKernels } from './contract/matrix';
import type { MemoryKernels } from './contract/memory';
import type { OptimizerKernels } from './contract/optimizer';
import type { QuantizeKernels } from './contract/quantize';
import type { RoutingKernels } from './contract/routing';
import type { Storage } from './storage';

export type * from './contract/attention';
export type * from './contract/latents';
export type * from './contract/layers';
export type * from './contract/loss';
export type * from './contract/matrix';
export type * from './contract/memory';
export type * from './contract/optimizer';
export type * from './contract/quantize';
export type * from './contract/routing';

/** Kernel calls that were made once, with all their arguments. */
export interface Recording {
  /**
   * Makes them again, in order, on the same memory.
   * @throws ERR_BALEEN_KERNELS_DETACHED, before the first call, where a buffer was transferred or shrank since
   */
  replay(): void;
}

/** Dense compute. Calls enqueue work on the views given; `flush` waits for it. */
export interface Kernels
  extends MemoryKernels,
    MatrixKernels,
    QuantizeKernels,
    LayerKernels,
    AttentionKernels,
    LatentKernels,
    LossKernels,
    RoutingKernels,
    OptimizerKernels {
  /** Which implementation this is. */
  readonly implementation: 'reference' | 'native' | 'null';
  /** Instruction set in use (`avx512bf16`, `avx512`, `avx2`, `neon`, `baseline`), `javascript` or `none`. */
  readonly isa: string;
  /** Threads the pool uses now. */
  readonly threads: number;
  /** Makes zeroed storage, of that many bytes from its `lineStart` on. */
  createStorage(byteLength: number): Storage;
  /** Waits until everything enqueued has run. */
  flush(): void;
  /**
   * Runs `body` and keeps the kernel calls it makes, with the memory they name, so that they can be made again without
   * the program that made them. Only where calls have a cost worth saving; recordings do not nest.
   */
  record?: ((body: () => void) => Recording) | undefined;
}
