// Memory that rows lie in while they travel: taken for an exchange and given back at its end, so that exchanges of a size
// which was there before make no memory. It is shared where there is shared memory, for ranks that are threads read each
// other's where it lies.
import { arrayOf, type CommArray, elementBytes, elementTypeOf } from '../arrays';

/** Buffers by size, each used by one exchange at a time. */
export class Staging {
  private readonly free: ArrayBufferLike[] = [];

  /**
   * Takes an array.
   * @param like - an array of the type wanted
   * @param length - elements
   * @returns an array with undefined contents
   */
  take<T extends CommArray>(like: T, length: number): T {
    const type = elementTypeOf(like) ?? 'u8';
    const bytes = Math.max(64, elementBytes[type] * length);
    let best = -1;
    this.free.forEach(({ byteLength }, i) => {
      if (byteLength >= bytes && (best < 0 || byteLength < this.free[best].byteLength)) best = i;
    });
    const [buffer = memory(2 ** Math.ceil(Math.log2(bytes)))] =
      best < 0 ? [] : this.free.splice(best, 1);
    return arrayOf(type, buffer, 0, length) as T;
  }

  /**
   * Gives arrays back.
   * @param arrays - taken before, and not used any more
   */
  give(arrays: readonly CommArray[]): void {
    for (const { buffer } of arrays) this.free.push(buffer);
  }
}

function memory(bytes: number): ArrayBufferLike {
  return typeof SharedArrayBuffer === 'undefined'
    ? new ArrayBuffer(bytes)
    : new SharedArrayBuffer(bytes);
}
