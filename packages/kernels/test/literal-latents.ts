// The literal contract of attention over cached latents, and of tokens' ways into and out of a pool (see literal.ts).
import { cpuBuffer, type Kernels, type View } from '@baleen/kernels';

import { fromBf16, fromE4m3, read, toBf16, toE4m3, write } from './literal-views';

interface Row {
  rank: number;
  rope: number;
}

/** Bytes of an FP8 token: codes, scales, rotary key. */
function tokenBytes(pages: View, slot: number, { rank, rope }: Row): DataView {
  const bytes = rank + 4 * Math.ceil(rank / 128) + 2 * rope;
  return new DataView(cpuBuffer(pages), pages.byteOffset + slot * bytes, bytes);
}

/** The row in a slot. */
function rowOf(pages: View, values: readonly number[] | null, slot: number, s: Row): number[] {
  const width = s.rank + s.rope;
  if (values) return values.slice(slot * width, (slot + 1) * width);
  const token = tokenBytes(pages, slot, s);
  const rotaryAt = s.rank + 4 * Math.ceil(s.rank / 128);
  return Array.from({ length: width }, (_, d) =>
    d < s.rank
      ? Math.fround(
          fromE4m3(token.getUint8(d)) * token.getFloat32(s.rank + 4 * Math.floor(d / 128), true),
        )
      : fromBf16(token.getUint16(rotaryAt + 2 * (d - s.rank), true)),
  );
}

const numbersOf = (pages: View): number[] | null => (pages.dtype === 'e4m3' ? null : read(pages));

/** The kernels by name. */
export const literalLatents: Pick<Kernels, 'latentAttention' | 'writeLatents' | 'readLatents'> = {
  latentAttention: (out, lse, q, pages, table, lengths, s) => {
    const low = pages.dtype !== 'f32';
    const round = (x: number): number => (low ? fromBf16(toBf16(x)) : x);
    const width = s.rank + s.rope;
    const [queries, stored] = [read(q).map(round), numbersOf(pages)];
    const [entries, counts] = [read(table), read(lengths)];
    const results = new Array<number>(out.size);
    const logs = new Array<number>(lse.size);
    for (let b = 0; b < s.sequences; b += 1) {
      const all: number[][] = [];
      for (let j = 0; j < counts[b]; j += 1) {
        const page = entries[b * s.tableWidth + Math.floor(j / s.pageSize)];
        all.push(rowOf(pages, stored, page * s.pageSize + (j % s.pageSize), s).map(round));
      }
      for (let i = 0; i < s.queries; i += 1)
        for (let h = 0; h < s.heads; h += 1) {
          const at = (b * s.queries + i) * s.heads + h;
          const rows = all.slice(0, Math.max(0, counts[b] - s.queries + i + 1));
          const scores = rows.map((row) =>
            row.reduce((sum, x, d) => sum + s.scale * x * queries[at * width + d], 0),
          );
          const top = Math.max(...scores);
          const powers = scores.map((score) => Math.exp(score - top));
          const total = powers.reduce((sum, p) => sum + p, 0);
          logs[(b * s.heads + h) * s.queries + i] =
            rows.length === 0 ? Infinity : top + Math.log(total);
          for (let d = 0; d < s.rank; d += 1)
            results[at * s.rank + d] =
              rows.length === 0
                ? 0
                : powers.reduce((sum, p, j) => sum + round(p) * rows[j][d], 0) / total;
        }
    }
    write(out, results);
    write(lse, logs);
  },
  writeLatents: (pages, latent, rotary, slots, s) => {
    const [latents, rotaries] = [read(latent), read(rotary)];
    const numbers = numbersOf(pages);
    read(slots).forEach((slot, t) => {
      const own = latents.slice(t * s.rank, (t + 1) * s.rank);
      const key = rotaries.slice(t * s.rope, (t + 1) * s.rope);
      if (numbers) {
        numbers.splice(slot * (s.rank + s.rope), s.rank + s.rope, ...own, ...key);
        return;
      }
      const token = tokenBytes(pages, slot, s);
      for (let first = 0; first < s.rank; first += 128) {
        const part = own.slice(first, first + 128);
        const amax = Math.max(...part.map(Math.abs));
        let scale = 2 ** -13; // the power of two above 1e-4
        while (scale < Math.fround(amax / 448)) scale *= 2;
        token.setFloat32(s.rank + first / 32, scale, true);
        part.forEach((x, d) => {
          token.setUint8(first + d, toE4m3(x / scale));
        });
      }
      const rotaryAt = s.rank + 4 * Math.ceil(s.rank / 128);
      key.forEach((x, d) => {
        token.setUint16(rotaryAt + 2 * d, toBf16(x), true);
      });
    });
    if (numbers) write(pages, numbers);
  },
  readLatents: (latent, rotary, pages, slots, s) => {
    const stored = numbersOf(pages);
    const rows = read(slots).map((slot) => rowOf(pages, stored, slot, s));
    write(
      latent,
      rows.flatMap((row) => row.slice(0, s.rank)),
    );
    write(
      rotary,
      rows.flatMap((row) => row.slice(s.rank)),
    );
  },
};
