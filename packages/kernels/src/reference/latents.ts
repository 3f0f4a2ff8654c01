// Attention over cached latents, row by row: the reference of contract/latents.ts.
import { blockScale, type ScaleOptions } from '../blocks';
import { decodeBf16, decodeE4M3, encodeBf16, encodeE4M3 } from '../codec';
import type {
  LatentAttentionSizes,
  LatentGradientSizes,
  LatentRowSizes,
  LatentSizes,
} from '../kernels';
import { latentLayout, latentTile } from '../latents';
import { bf16, cpuBuffer, f32, i32, type View } from '../storage';
import { addScaled, dot, toBf16, values } from './attention';

/** FP8 scales as the published cache has them: never below 1e-4, rounded up to a power of two. */
const scaleOptions: ScaleOptions = { powerOfTwo: true, amaxFloor: 448 * 1e-4 };

/** A token's bytes, numbers at any place in them. */
class Token {
  private readonly bytes: DataView;
  private readonly layout;

  constructor(
    pages: View,
    slot: number,
    private readonly sizes: LatentSizes,
  ) {
    this.layout = latentLayout(sizes);
    const { bytes } = this.layout;
    this.bytes = new DataView(cpuBuffer(pages), pages.byteOffset + slot * bytes, bytes);
  }

  read(row: Float32Array): void {
    const { rank, rope } = this.sizes;
    for (let d = 0; d < rank; d += 1)
      row[d] = decodeE4M3(this.bytes.getUint8(d)) * this.scale(Math.floor(d / latentTile));
    for (let d = 0; d < rope; d += 1)
      row[rank + d] = decodeBf16(this.bytes.getUint16(this.layout.rotary + 2 * d, true));
  }

  write(latent: Float32Array, rotary: Float32Array): void {
    for (let first = 0, tile = 0; first < latent.length; first += latentTile, tile += 1) {
      const part = latent.subarray(first, first + latentTile);
      // A NaN has no magnitude here: its code says it.
      const amax = part.reduce((most, x) => (Math.abs(x) > most ? Math.abs(x) : most), 0);
      const scale = blockScale(amax, 'e4m3', scaleOptions);
      this.bytes.setFloat32(this.layout.scales + 4 * tile, scale, true);
      part.forEach((x, d) => {
        this.bytes.setUint8(first + d, encodeE4M3(x / scale));
      });
    }
    rotary.forEach((x, d) => {
      this.bytes.setUint16(this.layout.rotary + 2 * d, encodeBf16(x), true);
    });
  }

  private scale(tile: number): number {
    return this.bytes.getFloat32(this.layout.scales + 4 * tile, true);
  }
}

/** Reads the row of one slot. */
function readRow(row: Float32Array, pages: View, slot: number, sizes: LatentSizes): void {
  if (pages.dtype === 'e4m3') {
    new Token(pages, slot, sizes).read(row);
    return;
  }
  const at = slot * row.length;
  const stored = pages.dtype === 'bf16' ? bf16(pages) : f32(pages);
  for (let d = 0; d < row.length; d += 1)
    row[d] = pages.dtype === 'bf16' ? decodeBf16(stored[at + d]) : stored[at + d];
}

/** See `Kernels.latentAttention`. */
export function latentAttention(
  out: View,
  lse: View,
  q: View,
  pages: View,
  table: View,
  lengths: View,
  sizes: LatentAttentionSizes,
): void {
  const { sequences, queries, heads, rank, rope, pageSize, tableWidth, scale } = sizes;
  const low = pages.dtype !== 'f32';
  const width = rank + rope;
  const qs = low ? values(q).map(toBf16) : values(q);
  const [result, logs, entries, counts] = [f32(out), f32(lse), i32(table), i32(lengths)];
  const sums = new Float32Array(rank);
  for (let s = 0; s < sequences; s += 1) {
    const length = counts[s];
    const rows = Array.from({ length }, (_, j) => {
      const row = new Float32Array(width);
      const page = entries[s * tableWidth + Math.floor(j / pageSize)];
      readRow(row, pages, page * pageSize + (j % pageSize), sizes);
      return low ? row.map(toBf16) : row;
    });
    for (let i = 0; i < queries; i += 1)
      for (let h = 0; h < heads; h += 1) {
        const at = (s * queries + i) * heads + h;
        const seen = rows.slice(0, Math.max(0, length - queries + i + 1));
        const scores = seen.map((row) => scale * dot(qs, at * width, row, 0, width));
        const top = scores.reduce((most, x) => Math.max(most, x), -Infinity);
        let total = 0;
        sums.fill(0);
        seen.forEach((row, j) => {
          const p = Math.exp(scores[j] - top);
          total += p;
          addScaled(sums, 0, low ? toBf16(p) : p, row, 0, rank);
        });
        for (let d = 0; d < rank; d += 1)
          result[at * rank + d] = seen.length === 0 ? 0 : sums[d] / total;
        logs[(s * heads + h) * queries + i] = seen.length === 0 ? Infinity : top + Math.log(total);
      }
  }
}

/**
 * See `Kernels.latentAttentionBackward`. With P = exp(scale · q·row − lse), dP = dout · latent, D = dout · out:
 * dS = scale · P ∘ (dP − D), dq = dS rows, drows = dSᵀ q, and to their latents comes Pᵀ dout.
 */
export function latentAttentionBackward(
  dq: View,
  dkeys: View,
  dout: View,
  q: View,
  keys: View,
  out: View,
  lse: View,
  sizes: LatentGradientSizes,
): void {
  const { batch, queries, keys: count, heads, rank, rope, scale } = sizes;
  const width = rank + rope;
  const [qs, rows, grad, result, logs] = [values(q), values(keys), f32(dout), f32(out), f32(lse)];
  const rounded = (x: number): number => (q.dtype === 'bf16' ? toBf16(x) : x);
  const gradOperand = grad.map(rounded);
  const [dqs, drows] = [f32(dq), f32(dkeys)];
  dqs.fill(0);
  drows.fill(0);
  for (let b = 0; b < batch; b += 1)
    for (let i = 0; i < queries; i += 1)
      for (let h = 0; h < heads; h += 1) {
        const at = (b * queries + i) * heads + h;
        const delta = dot(grad, at * rank, result, at * rank, rank);
        const log = logs[(b * heads + h) * queries + i];
        for (let j = 0; j < count - queries + i + 1; j += 1) {
          const rowAt = (b * count + j) * width;
          const p = Math.exp(scale * dot(qs, at * width, rows, rowAt, width) - log);
          const dp = dot(gradOperand, at * rank, rows, rowAt, rank);
          const ds = rounded(scale * p * (dp - delta));
          addScaled(dqs, at * width, ds, rows, rowAt, width);
          addScaled(drows, rowAt, ds, qs, at * width, width);
          addScaled(drows, rowAt, rounded(p), gradOperand, at * rank, rank);
        }
      }
}

/** See `Kernels.writeLatents`. */
export function writeLatents(
  pages: View,
  latent: View,
  rotary: View,
  slots: View,
  sizes: LatentRowSizes,
): void {
  const { tokens, rank, rope } = sizes;
  const [latents, rotaries, places] = [f32(latent), f32(rotary), i32(slots)];
  for (let t = 0; t < tokens; t += 1) {
    const own = latents.subarray(t * rank, (t + 1) * rank);
    const key = rotaries.subarray(t * rope, (t + 1) * rope);
    if (pages.dtype === 'e4m3') new Token(pages, places[t], sizes).write(own, key);
    else {
      const stored = pages.dtype === 'bf16' ? bf16(pages) : f32(pages);
      const convert = (x: number): number => (pages.dtype === 'bf16' ? encodeBf16(x) : x);
      const at = places[t] * (rank + rope);
      own.forEach((x, d) => (stored[at + d] = convert(x)));
      key.forEach((x, d) => (stored[at + rank + d] = convert(x)));
    }
  }
}

/** See `Kernels.readLatents`. */
export function readLatents(
  latent: View,
  rotary: View,
  pages: View,
  slots: View,
  sizes: LatentRowSizes,
): void {
  const { tokens, rank, rope } = sizes;
  const [latents, rotaries, places] = [f32(latent), f32(rotary), i32(slots)];
  const row = new Float32Array(rank + rope);
  for (let t = 0; t < tokens; t += 1) {
    readRow(row, pages, places[t], sizes);
    latents.set(row.subarray(0, rank), t * rank);
    rotaries.set(row.subarray(rank), t * rope);
  }
}
