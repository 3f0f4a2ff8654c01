// How a token's latent and rotary key lie in a pool, in each type (see contract/latents.ts).
import type { LatentSizes } from './contract/latents';
import { bytesPerElement } from './storage';

/** Types of a pool: FP32, BF16, or FP8 in bytes. */
export type LatentType = 'f32' | 'bf16' | 'e4m3';

/** Codes of a latent that share a scale. */
export const latentTile = 128;

/** Where the parts of an FP8 token begin, in bytes. */
export interface LatentLayout {
  /** Its scales, behind the codes. */
  scales: number;
  /** Its rotary key. */
  rotary: number;
  /** The next token. */
  bytes: number;
}

/**
 * Where the parts of an FP8 token lie.
 * @param sizes - of its row
 * @returns bytes from its start
 */
export function latentLayout({ rank, rope }: LatentSizes): LatentLayout {
  const rotary = rank + 4 * Math.ceil(rank / latentTile);
  return { scales: rank, rotary, bytes: rotary + 2 * rope };
}

/**
 * Elements of one token in a pool's view: numbers in FP32 and BF16, bytes in FP8.
 * @param type - the pool's
 * @param sizes - of a token's row
 * @returns how many
 */
export function latentElements(type: LatentType, sizes: LatentSizes): number {
  return type === 'e4m3' ? latentLayout(sizes).bytes : sizes.rank + sizes.rope;
}

/**
 * Bytes of one cached token: 4 or 2 a number, and in FP8 rank + 4 · ⌈rank / 128⌉ + 2 · rope.
 * @param type - the pool's
 * @param sizes - of a token's row
 * @returns 2304, 1152 or 656 for V3's 512 and 64
 */
export function latentBytes(type: LatentType, sizes: LatentSizes): number {
  return bytesPerElement[type] * latentElements(type, sizes);
}
