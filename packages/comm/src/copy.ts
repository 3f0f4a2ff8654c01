// Bytes from one array to another, bit for bit, as fast as memory goes.
import { type Kernels, loadKernels, viewOf } from '@baleen/kernels';

import { bytesOf, type CommArray, elementBytes, elementTypeOf } from './arrays';

/** What is copied at least for a call of a kernel to be worth while, bytes: JavaScript copies shared memory word by word. */
const kernelFrom = 2 ** 15;
/** Bytes of one call so that the kernel does not divide it among threads: these are to compute meanwhile. */
const undivided = 2 ** 17 - 2 ** 12;
/** What a rank writes in a call is written past the caches from here on, bytes: most of it would not stay in them. */
const pastFrom = 2 ** 23;

let kernels: Kernels | null = null;

/**
 * Whether the output of a call is to be written past the caches.
 * @param bytes - that the rank writes
 * @returns true where they would not stay in them
 */
export function goesPast(bytes: number): boolean {
  return bytes >= pastFrom;
}

/**
 * How much a rank's thread gives to a kernel at once.
 * @param of - the kernels
 * @param alone - bytes where they have one thread only
 * @returns bytes
 */
export function bytesAtOnce(of: Kernels, alone: number): number {
  return of.threads === 1 ? alone : undivided;
}

/**
 * Copies bytes.
 * @param out - the target
 * @param x - the source, of the same size, apart from it
 * @param past - whether past the caches; see {@link goesPast}
 */
export function copyBytes(out: Uint8Array, x: Uint8Array, past: boolean): void {
  const { length } = x;
  if (length < kernelFrom) {
    out.set(x);
    return;
  }
  kernels ??= loadKernels();
  const [to, from] = [viewOf(out), viewOf(x)];
  const most = bytesAtOnce(kernels, Infinity);
  for (let at = 0; at < length; at += most) {
    const size = Math.min(most, length - at);
    kernels.copy(
      { ...to, byteOffset: to.byteOffset + at, size },
      { ...from, byteOffset: from.byteOffset + at, size },
      { past },
    );
  }
}

/**
 * Copies elements from one array to another of the same type, bit for bit; to where they are already it does nothing.
 * @param out - the target
 * @param at - its first element
 * @param x - the source
 * @param from - its first element
 * @param count - elements
 * @param past - whether past the caches; see {@link goesPast}
 */
export function copyElements(
  out: CommArray,
  at: number,
  x: CommArray,
  from: number,
  count: number,
  past: boolean,
): void {
  const width = elementBytes[elementTypeOf(x) ?? 'u8'];
  const [target, source] = [out.byteOffset + at * width, x.byteOffset + from * width];
  if (count === 0 || (out.buffer === x.buffer && target === source)) return;
  // As bytes: FP32 that passes through a number may lose what its NaN carries.
  const piece = (array: CommArray, first: number): Uint8Array =>
    bytesOf(array).subarray(first * width, (first + count) * width);
  copyBytes(piece(out, at), piece(x, from), past);
}
