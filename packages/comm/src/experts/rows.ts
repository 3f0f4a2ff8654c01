// What dispatch and combine are given: rows, and how they travel.
import type { CallOptions } from '../communicator';

/** Rows in a type that travels: FP32, BF16, 32-bit integers, bytes. */
export type ExpertRows = Float32Array | Uint16Array | Int32Array | Uint8Array;

/** FP8 rows, which travel undecoded: codes [rows, cols], and the scale of each 128 of them [rows, ⌈cols / 128⌉]. */
export interface ScaledRows {
  /** Codes. */
  codes: Uint8Array;
  /** Scales. */
  scales: Float32Array;
}

/** What has rows of its own: every `token`, or every `choice` of one, a token and one of its experts. */
export type RowsPer = 'token' | 'choice';

/** Options of dispatch. */
export interface DispatchOptions<T> extends CallOptions {
  /** x is [T, cols] or, a row for each `choice`, [T · K, cols] (default `token`). */
  per?: RowsPer;
  /** Width of a row (default `hidden`). */
  cols?: number;
  /** Where the rows go. */
  out?: T;
}

/** Options of combine. */
export interface CombineOptions extends CallOptions {
  /** Sums a `token` [T, cols] or, row by row, results of every `choice` [T · K, cols] (default `token`). */
  per?: RowsPer;
  /** What travels: BF16 as V3 has it (§3.3.3; default), or FP32. */
  transport?: 'bf16' | 'fp32';
  /** Factors of the rows in the sum of a token [rows] (default 1). */
  weights?: Float32Array;
  /** Width of a row (default `hidden`). */
  cols?: number;
  /** Where the results go. */
  out?: Float32Array;
}

/** Bytes of rows and scales that crossed one kind of link. */
export interface LevelBytes {
  /** Sent by this rank. */
  sent: number;
  /** Received by it. */
  received: number;
}

/** Bytes of rows and their scales by kind of link; indices and counts are not among them. */
export interface ExpertTraffic {
  /** Between ranks of a node. */
  within: LevelBytes;
  /** Between nodes. */
  between: LevelBytes;
}

/**
 * The arrays of rows.
 * @param x - rows
 * @param cols - their width
 * @returns each array's name, itself and its width
 */
export function partsOf(x: ExpertRows | ScaledRows, cols: number): [string, ExpertRows, number][] {
  return 'codes' in x
    ? [
        ['x.codes', x.codes, cols],
        ['x.scales', x.scales, Math.ceil(cols / 128)],
      ]
    : [['x', x, cols]];
}
