// Twelve-bit codes in memory: two in three bytes, so that E5M6 takes a quarter less than BF16 (§3.3.3).
import { type SizeChecks, sizeChecks } from './size-checks';

const { refuse, length: checkLength }: SizeChecks = sizeChecks('ERR_BALEEN_KERNELS_SHAPE');

/**
 * Bytes that packed 12-bit codes take.
 * @param count - codes
 * @returns ⌈1.5 · count⌉
 */
export function packed12Length(count: number): number {
  return Math.ceil(1.5 * count);
}

/**
 * Packs 12-bit codes, two in three bytes, lowest bits first: of the codes a and b the bytes are a's low 8 bits, a's high
 * 4 below b's low 4, and b's high 8. An odd last code takes two bytes, the last 4 bits zero.
 * @param codes - codes below 4096, such as E5M6's
 * @param options - where the bytes go; nothing is allocated then
 * @returns ⌈1.5 · codes⌉ bytes
 * @throws ERR_BALEEN_KERNELS_SHAPE where `out` is of another length
 *
 * @example
 * ```ts
 * import { pack12, unpack12 } from '@baleen/kernels';
 * const bytes = pack12(Uint16Array.of(0xabc, 0xdef));
 * console.log([...bytes].map((byte) => byte.toString(16)).join('')); // => bcfade
 * console.log(unpack12(bytes, { count: 2 })[1] === 0xdef); // => true
 * ```
 */
export function pack12(codes: Uint16Array, options: { out?: Uint8Array } = {}): Uint8Array {
  const size = packed12Length(codes.length);
  const out = options.out ?? new Uint8Array(size);
  checkLength('out', out, { bytes: size });
  let at = 0;
  for (let i = 0; i < codes.length; i += 2) {
    const [a, b] = [codes[i], i + 1 < codes.length ? codes[i + 1] : 0];
    out[at] = a;
    out[at + 1] = ((a >>> 8) & 15) | (b << 4);
    // Beyond the end of an odd number of codes there is no third byte, and nothing is written.
    out[at + 2] = b >>> 4;
    at += 3;
  }
  return out;
}

/**
 * Takes packed 12-bit codes apart.
 * @param bytes - what `pack12` made
 * @param sizes - how many codes they hold
 * @param options - where the codes go; nothing is allocated then
 * @returns the codes
 * @throws ERR_BALEEN_KERNELS_SHAPE where the bytes hold another number of codes, or `out` is of another length
 */
export function unpack12(
  bytes: Uint8Array,
  sizes: { count: number },
  options: { out?: Uint16Array } = {},
): Uint16Array {
  const { count } = sizes;
  if (bytes.length !== packed12Length(count))
    refuse(
      'bytes',
      `${bytes.length} bytes do not hold ${count} codes, which take ${packed12Length(count)}`,
      'count codes, two in three bytes',
    );
  const out = options.out ?? new Uint16Array(count);
  checkLength('out', out, { count });
  let at = 0;
  for (let i = 0; i < count; i += 2) {
    const middle = bytes[at + 1];
    out[i] = bytes[at] | ((middle & 15) << 8);
    if (i + 1 < count) out[i + 1] = (middle >>> 4) | (bytes[at + 2] << 4);
    at += 3;
  }
  return out;
}
