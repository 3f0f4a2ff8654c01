// Shared memory for arrays that are not: what lies in an ordinary ArrayBuffer is copied through it.
/** The smallest block, bytes; every block is a power of two. */
const least = 65536;
/** Blocks up to this size are kept for later calls. */
const kept = 2 ** 26;

/** Blocks of one rank. */
export class Staging {
  private readonly free: SharedArrayBuffer[] = [];

  /**
   * Takes a block; nobody else has it until it is given back.
   * @param bytes - at least so many
   * @returns shared memory, whatever it holds
   */
  take(bytes: number): SharedArrayBuffer {
    let size = least;
    while (size < bytes) size *= 2;
    const index = this.free.findIndex((block) => block.byteLength === size);
    // Large blocks are of just the size: twice the memory would be for nothing.
    return index >= 0
      ? this.free.splice(index, 1)[0]
      : new SharedArrayBuffer(size > kept ? bytes : size);
  }

  /**
   * Gives a block back.
   * @param block - one that was taken
   */
  give(block: SharedArrayBuffer): void {
    if (block.byteLength <= kept) this.free.push(block);
  }
}
