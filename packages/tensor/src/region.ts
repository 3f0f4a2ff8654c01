// Memory regions: where intermediate values, parameters and caches live.
// A region hands out blocks of a few large buffers. Its free lists depend only on the sequence of calls, so a training
// step that repeats the same calls lands on the same addresses and, once warm, never asks the backend for memory.
import type { Kernels, Storage } from '@baleen/kernels';

import { internalError, orderError } from './errors';

const alignment = 64;
/** Smallest buffer a region asks for; a larger block gets a buffer of its own size. */
const defaultBufferBytes = 1 << 22;

/** A free or used range of a buffer. */
interface Range {
  start: number;
  bytes: number;
}

interface Buffer {
  storage: Storage;
  /** Free ranges in ascending order, never adjacent. */
  free: Range[];
}

/**
 * A piece of memory with a count of its holders. It goes back to its region when the last holder lets go.
 * Tensors point at blocks rather than at memory, so that a recomputed value can move into the block its readers know.
 */
export class Block {
  /** The buffer, or null once given back. */
  storage: Storage | null;
  /** Start in the buffer, in bytes. */
  byteOffset: number;
  /** Holders. */
  refs = 1;
  /** Who can make the value again (see recompute.ts); such blocks are not kept for backward. */
  source: Rebuildable | null = null;

  /** Made by `Region.allocate`. */
  constructor(
    /** Its region. */
    readonly region: Region,
    storage: Storage,
    byteOffset: number,
    /** Size in bytes, as asked for. */
    readonly bytes: number,
  ) {
    this.storage = storage;
    this.byteOffset = byteOffset;
  }

  /** Adds a holder. */
  retain(): void {
    if (this.target) this.target.retain();
    else this.refs += 1;
  }

  /** Removes a holder; the last one gives the memory back. */
  release(): void {
    if (this.target) {
      this.target.release();
      return;
    }
    this.refs -= 1;
    if (this.refs < 0) throw internalError('a block was released more often than it was held');
    if (this.refs === 0 && this.storage !== null) {
      this.region.giveBack(this);
      this.storage = null;
    }
  }

  /** Where the memory is now: another block's, after a recomputation. */
  private target: Block | null = null;

  /**
   * Becomes another name of `target`, whose memory holds the recomputed value. This block must have been given back.
   * Holders of either name count together.
   */
  alias(target: Block): void {
    if (this.refs !== 0) throw internalError('only a block without holders can move');
    this.target = target;
  }

  /** The block that holds the memory. */
  get current(): Block {
    return this.target ?? this;
  }
}

/** Something that can compute the value of its blocks again. */
export interface Rebuildable {
  /** Makes the values present; does nothing if they are. */
  rebuild(): void;
}

/** What a region holds. */
export interface RegionCounters {
  /** Bytes in use now. */
  readonly liveBytes: number;
  /** Most bytes ever in use at once. */
  readonly peakBytes: number;
  /** Bytes of the buffers behind it. */
  readonly reservedBytes: number;
  /** Buffers asked of the backend so far. */
  readonly buffers: number;
}

/** A growing pool of memory with deterministic placement (first fit, lowest address). */
export class Region implements RegionCounters {
  liveBytes = 0;
  peakBytes = 0;
  reservedBytes = 0;
  /**
   * Who uses the memory without having taken it, if anyone: calls made again from a recording write where blocks lay when
   * it was made. Nobody can take a block meanwhile.
   */
  occupant: string | null = null;
  private readonly list: Buffer[] = [];

  /**
   * @param kernels - the backend that owns the memory
   * @param name - for error messages
   * @param bufferBytes - size of its buffers, unless a block needs more
   */
  constructor(
    /** The backend that owns the memory. */
    readonly kernels: Kernels,
    /** For error messages and reports. */
    readonly name: string,
    private readonly bufferBytes: number = defaultBufferBytes,
  ) {}

  get buffers(): number {
    return this.list.length;
  }

  /** Forgets the peak, to measure a span. */
  resetPeak(): void {
    this.peakBytes = this.liveBytes;
  }

  /**
   * Takes a block. Its contents are whatever was there before.
   * @param bytes - size
   * @returns a block with one holder
   * @throws ERR_BALEEN_TENSOR_ORDER while the memory has an {@link occupant}
   */
  allocate(bytes: number): Block {
    if (this.occupant !== null)
      throw orderError(
        `the memory of ${this.name} is in use by ${this.occupant}`,
        'take memory of another region, or wait until that has ended',
      );
    const rounded = roundUp(bytes);
    for (const buffer of this.list) {
      const index = buffer.free.findIndex((range) => range.bytes >= rounded);
      if (index < 0) continue;
      return this.take(buffer, index, bytes, rounded);
    }
    // A Node.js ArrayBuffer stops at 4 GiB on version 20, so a region spans as many buffers as it needs.
    const size = Math.max(rounded, this.bufferBytes);
    const storage = this.kernels.createStorage(size);
    const buffer: Buffer = { storage, free: [{ start: storage.lineStart ?? 0, bytes: size }] };
    this.list.push(buffer);
    this.reservedBytes += size;
    return this.take(buffer, 0, bytes, rounded);
  }

  private take(buffer: Buffer, index: number, bytes: number, rounded: number): Block {
    const range = buffer.free[index];
    const block = new Block(this, buffer.storage, range.start, bytes);
    if (range.bytes === rounded) buffer.free.splice(index, 1);
    else {
      range.start += rounded;
      range.bytes -= rounded;
    }
    this.liveBytes += rounded;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    return block;
  }

  /** Puts a block's memory back on the free list. Called by the block itself. */
  giveBack(block: Block): void {
    const buffer = this.list.find((candidate) => candidate.storage === block.storage);
    if (!buffer)
      throw internalError(`a block was given back to ${this.name}, which does not own it`);
    const bytes = roundUp(block.bytes);
    this.liveBytes -= bytes;
    const { free } = buffer;
    let low = 0;
    let high = free.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (free[middle].start < block.byteOffset) low = middle + 1;
      else high = middle;
    }
    const endOf = ({ start, bytes: length }: Range): number => start + length;
    const joinsBefore = low > 0 && endOf(free[low - 1]) === block.byteOffset;
    const joinsAfter = low < free.length && free[low].start === block.byteOffset + bytes;
    if (joinsBefore && joinsAfter) {
      free[low - 1].bytes += bytes + free[low].bytes;
      free.splice(low, 1);
    } else if (joinsBefore) free[low - 1].bytes += bytes;
    else if (joinsAfter) {
      free[low].start -= bytes;
      free[low].bytes += bytes;
    } else free.splice(low, 0, { start: block.byteOffset, bytes });
  }
}

function roundUp(bytes: number): number {
  return Math.max(alignment, Math.ceil(bytes / alignment) * alignment);
}
