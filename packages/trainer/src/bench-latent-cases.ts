// What `bench kernels` measures of decoding: attention in the absorbed form with V3's widths, over caches in BF16 far larger
// than the processor's own.
import { decodeWork } from '@baleen/mla';

import type { KernelCase } from './bench-case';
import { Operands } from './bench-operands';

/** Rank of the latent, and width of the rotary key: V3's. */
const [rank, rope] = [512, 64];
/** Tokens a page. */
const pageSize = 64;
/** Bytes that all sequences have cached, at least. */
const workingSet = 256 * 2 ** 20;

/**
 * One new token of each of many sequences: [sequences, cached tokens of each, heads].
 * @param scale - of the caches
 * @returns the cases
 */
export function latentCases(scale: number): KernelCase[] {
  return [1024, 16384].flatMap((full) => {
    const length = Math.max(pageSize, Math.round((full * scale) / pageSize) * pageSize);
    const sequences = Math.max(1, Math.ceil((workingSet * scale) / (length * 2 * (rank + rope))));
    return [8, 16, 128].map((heads) => latentAttention(sequences, length, heads));
  });
}

function latentAttention(sequences: number, length: number, heads: number): KernelCase {
  // The widths of a head's own key and value do not matter to the core.
  const shape = { form: 'absorbed' as const, heads, nopeDim: 128, ropeDim: rope, valueDim: 128 };
  const { core } = decodeWork({ ...shape, kvRank: rank }, { length, sequences });
  return {
    kernel: 'latent-attention',
    shape: [sequences, length, heads],
    of: 'bf16Dot',
    work: core.flops,
    bytes: core.bytes,
    everyThread: true,
    prepare: (kernels) => {
      const make = new Operands(kernels);
      const each = length / pageSize;
      const pages = sequences * each;
      const pool = make.bf16Rows(pages * pageSize, rank + rope);
      const q = make.bf16(sequences * heads, rank + rope);
      const [out, lse] = [make.f32(sequences * heads, rank), make.f32(sequences * heads)];
      // Each sequence's pages lie apart, as they do when sequences grow side by side.
      const table = make.i32(
        Array.from({ length: pages }, (_, at) => (at % each) * sequences + Math.floor(at / each)),
      );
      const lengths = make.i32(new Array<number>(sequences).fill(length));
      const sizes = { sequences, queries: 1, heads, rank, rope, pages, pageSize };
      return () => {
        kernels.latentAttention(out, lse, q, pool, table, lengths, {
          ...sizes,
          tableWidth: each,
          scale: (rank + rope) ** -0.5,
        });
      };
    },
  };
}
