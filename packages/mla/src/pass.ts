// A pass over new tokens of several sequences, as all its layers see it: where the tokens go, and which rows are attended to
// together and how. Made once a pass; layers of the same shape share it.
import { type Region, type Tensor, tensorFrom } from '@baleen/tensor';

import type { LatentCache } from './cache';
import { checkPositions } from './checks';
import { type AttentionForm, attentionForm } from './form';
import type { HeadSizes } from './heads';
import type { LatentPool } from './pool';
import type { Rotary } from './rotary';

/** Rows of a pass that belong to one sequence. */
export interface CachedRows {
  /** What its rows look back at, and are added to. */
  cache: LatentCache;
  /** How many rows it has. */
  count: number;
  /** How they are attended to (default: `attentionForm` of its lengths). */
  form?: AttentionForm;
}

/** Consecutive rows that are attended to together. */
export type RowGroup = AbsorbedGroup | ExpandedGroup;

/** Rows of sequences with as many each. */
export interface AbsorbedGroup {
  /** Their form. */
  form: 'absorbed';
  /** The first row. */
  start: number;
  /** Rows. */
  rows: number;
  /** Sequences. */
  sequences: number;
  /** Pages of each [sequences, tableWidth] I32. */
  table: Tensor;
  /** Most pages of one. */
  tableWidth: number;
  /** Tokens of each, with the new ones [sequences] I32. */
  lengths: Tensor;
  /** Where the rows of each head begin, head by head [heads + 1] I32. */
  offsets: Tensor;
}

/** Rows of one sequence. */
export interface ExpandedGroup {
  /** Their form. */
  form: 'expanded';
  /** The first row. */
  start: number;
  /** Rows. */
  rows: number;
  /** Where its tokens lie, the new ones too [tokens] I32. */
  slots: Tensor;
}

/** Where the new tokens of sequences go, and what they look back at. */
export class DecodePass {
  /** Pages of all sequences. */
  readonly pool: LatentPool;
  /** Rows. */
  readonly rows: number;
  /** Where the rows' latents go [rows] I32. */
  readonly slots: Tensor;
  /** cos of the rows' positions [rows, rope / 2]. */
  readonly cos: Tensor;
  /** sin likewise. */
  readonly sin: Tensor;
  /** Rows by call, in order. */
  readonly groups: readonly RowGroup[];
  private readonly before: readonly number[];
  private readonly held: Tensor[] = [];

  /**
   * Makes room for the rows in their caches. Sequences with equal counts are attended to together where they stand beside
   * each other.
   * @param region - where its tables live
   * @param attention - sizes and positions of the layers that run through it
   * @param list - whose rows these are, in order; all caches of one pool, none twice
   * @throws ERR_BALEEN_MLA_PAGES, ERR_BALEEN_MLA_CACHE, ERR_BALEEN_MLA_SEQUENCE where rows cannot be added: then no cache has
   *   changed
   */
  constructor(
    private readonly region: Region,
    attention: { readonly spec: HeadSizes & { kvRank: number }; readonly rotary: Rotary },
    private readonly list: readonly CachedRows[],
  ) {
    const { spec, rotary } = attention;
    this.pool = poolOf(list, spec);
    for (const { cache, count } of list) checkPositions(cache.length + count, rotary.positions);
    this.before = list.map(({ cache }) => cache.length);
    try {
      for (const { cache, count } of list) cache.append(count);
    } catch (error) {
      this.undo();
      throw error;
    }
    const positions = list.flatMap(({ count }, s) => upFrom(this.before[s], count));
    this.rows = positions.length;
    this.slots = this.integers(
      list.flatMap(({ cache, count }, s) =>
        upFrom(this.before[s], count).map((token) => cache.slot(token)),
      ),
    );
    const at = this.integers(positions);
    this.cos = this.rowsOf(rotary.cos, at);
    this.sin = this.rowsOf(rotary.sin, at);
    this.groups = this.group(spec);
  }

  /** Lets go of its tables. */
  release(): void {
    for (const { block } of this.held.splice(0)) block.release();
  }

  /** Takes the rows out of their caches again, where the pass failed. */
  undo(): void {
    this.list.forEach(({ cache }, s) => {
      cache.truncate(Math.min(cache.length, this.before[s]));
    });
  }

  private group(spec: HeadSizes & { kvRank: number }): RowGroup[] {
    const groups: RowGroup[] = [];
    const formOf = ({ cache, count, form }: CachedRows): AttentionForm =>
      form ?? attentionForm(spec, count, cache.length);
    let start = 0;
    for (let s = 0; s < this.list.length; ) {
      const { cache, count } = this.list[s];
      let end = s + 1;
      if (count > 0 && formOf(this.list[s]) === 'absorbed') {
        const fits = (rows: CachedRows | undefined): boolean =>
          rows?.count === count && formOf(rows) === 'absorbed';
        while (fits(this.list[end])) end += 1;
        groups.push(this.absorbed(start, this.list.slice(s, end), spec.heads));
      } else if (count > 0) {
        const slots = upFrom(0, cache.length).map((token) => cache.slot(token));
        groups.push({ form: 'expanded', start, rows: count, slots: this.integers(slots) });
      }
      start += (end - s) * count;
      s = end;
    }
    return groups;
  }

  private absorbed(start: number, list: readonly CachedRows[], heads: number): AbsorbedGroup {
    const sequences = list.length;
    const rows = sequences * list[0].count;
    const tableWidth = Math.max(...list.map(({ cache }) => cache.table.length));
    const table = new Int32Array(sequences * tableWidth);
    list.forEach(({ cache }, s) => {
      table.set(cache.table, s * tableWidth);
    });
    return {
      form: 'absorbed',
      start,
      rows,
      sequences,
      table: this.integers(table),
      tableWidth,
      lengths: this.integers(list.map(({ cache }) => cache.length)),
      offsets: this.integers(upFrom(0, heads + 1).map((head) => head * rows)),
    };
  }

  /** Rows of a table of positions. */
  private rowsOf(table: Tensor, positions: Tensor): Tensor {
    const [, cols] = table.shape;
    const out = tensorFrom(this.region, [this.rows, cols], new Float32Array(this.rows * cols));
    this.held.push(out);
    this.region.kernels.embedding(out, table, positions, { rows: this.rows, cols });
    return out;
  }

  private integers(values: ArrayLike<number>): Tensor {
    const out = tensorFrom(this.region, [values.length], Int32Array.from(values));
    this.held.push(out);
    return out;
  }
}

/** The pool of all caches; refuses a list that one call of the kernels could not serve. */
function poolOf(
  list: readonly CachedRows[],
  spec: { kvRank: number; ropeDim: number },
): LatentPool {
  const refuse = (path: string, message: string, hint: string): never => {
    throw Object.assign(new Error(message), { code: 'ERR_BALEEN_MLA_CACHE', path, hint });
  };
  const first = list[0] as CachedRows | undefined;
  if (!first) return refuse('list', 'a pass over no sequence', 'name at least one');
  const { pool } = first.cache;
  for (const [s, { cache }] of list.entries()) {
    if (cache.pool !== pool)
      refuse(`list[${s}]`, `list[${s}] lies in another pool`, 'take sequences of one pool');
    if (list.findIndex((rows) => rows.cache === cache) !== s)
      refuse(`list[${s}]`, `list[${s}] is named twice`, 'name a sequence once, with all its rows');
  }
  for (const key of ['kvRank', 'ropeDim'] as const)
    if (pool[key] !== spec[key])
      refuse(
        key,
        `the pool's ${key} (${pool[key]}) is not the layer's (${spec[key]})`,
        'make the pool for these layers',
      );
  return pool;
}

function upFrom(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + index);
}
