// Moments as checkpoints hold them: under the names of the weights, in slices of whole rows where ranks share the update.
//
// An entry is called `<weight>.exp_avg`, or `<weight>.exp_avg@<row>` where it begins at a later row. Whoever reads them takes
// the rows it needs from whichever entries hold them: a save under one layout loads under any other.
import {
  checkpointNames,
  type Decoder,
  type ModelConfig,
  type TensorSource,
  wholeModel,
} from '@baleen/model';
import type { AdamW, Shape, Tensor } from '@baleen/tensor';

/** Some rows of a moment, here and in a checkpoint. */
export interface MomentSlice {
  /** Name of the whole moment. */
  name: string;
  /** First row of these. */
  row: number;
  /** Values [rows, …]. */
  data: Tensor;
  /** Sizes of the whole moment. */
  shape: Shape;
}

/** Its entry's name. */
export function entryName({ name, row }: Pick<MomentSlice, 'name' | 'row'>): string {
  return row === 0 ? name : `${name}@${row}`;
}

/**
 * The moments of this rank, stacked experts taken apart.
 * @param model - the model
 * @param optimizer - its optimizer
 * @returns slices of whole rows
 */
export function* momentSlices(model: Decoder, optimizer: AdamW): Generator<MomentSlice> {
  const parameters = new Map(model.parameters());
  for (const [name, { start, m, v }] of optimizer.moments()) {
    const parameter = parameters.get(name);
    if (!parameter) continue;
    const names = checkpointNames(name, model.config.layers);
    const stacked = typeof names !== 'string';
    const shape = stacked ? parameter.shape.slice(1) : parameter.shape;
    const each = shape.reduce((product, size) => product * size, 1);
    const cols = each / shape[0];
    const end = start + m.size;
    for (let e = Math.floor(start / each); e * each < end; e += 1) {
      const [from, to] = [Math.max(start, e * each), Math.min(end, (e + 1) * each)];
      const rows = (to - from) / cols;
      const named = stacked ? names(e + (parameter.slice?.start ?? 0)) : names;
      for (const [suffix, moment] of [
        ['exp_avg', m],
        ['exp_avg_sq', v],
      ] as const)
        yield {
          ...{ name: `${named}.${suffix}`, row: (from - e * each) / cols, shape },
          data: moment
            .reshape([moment.size])
            .rows(from - start, to - from)
            .reshape([rows, ...shape.slice(1)]),
        };
    }
  }
}

/**
 * How many moments a checkpoint of a model holds, on all ranks together.
 * @param config - the model's sizes
 * @returns whole moments
 */
export function momentCount(config: ModelConfig): number {
  let count = 0;
  for (const { name, shape } of wholeModel(config).parameters)
    count += 2 * (typeof checkpointNames(name, config.layers) === 'string' ? 1 : shape[0]);
  return count;
}

/** The entries of one moment in a checkpoint. */
export interface StoredMoment {
  /** Its type, where all have one, and sizes of the whole. */
  dtype: string;
  /** Sizes. */
  shape: readonly number[];
  /** In order of rows. */
  entries: { name: string; row: number; rows: number }[];
}

/**
 * What a checkpoint holds, entries of one moment put together.
 * @param source - its files of moments
 * @returns moments by name; one with rows that are missing or twice there has no type
 */
export function storedMoments(source: TensorSource): Map<string, StoredMoment> {
  const moments = new Map<string, StoredMoment>();
  for (const [name, { dtype, shape }] of source.tensors) {
    const [, whole, row = '0'] = /^(.*?)(?:@(\d+))?$/s.exec(name) ?? ['', name];
    const rows = shape[0] ?? 1;
    const known = moments.get(whole);
    const entry = { name, row: Number(row), rows };
    if (!known) {
      moments.set(whole, { dtype, shape: [...shape], entries: [entry] });
      continue;
    }
    known.entries.push(entry);
    const alike = known.dtype === dtype && known.shape.slice(1).join() === shape.slice(1).join();
    if (!alike) known.dtype = 'several types';
  }
  for (const moment of moments.values()) {
    moment.entries.sort((a, b) => a.row - b.row);
    let end = 0;
    for (const { row, rows } of moment.entries) {
      if (row !== end) moment.dtype = 'incomplete';
      end = row + rows;
    }
    moment.shape = [end, ...moment.shape.slice(1)];
  }
  return moments;
}

/**
 * Fills rows from a checkpoint.
 * @param slice - which, and where they go
 * @param stored - the moment in the checkpoint, of the same type and sizes
 * @param source - its files
 */
export function readMoment(slice: MomentSlice, stored: StoredMoment, source: TensorSource): void {
  const values = slice.data.readSync();
  const out = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const [rows] = slice.data.shape;
  const width = out.length / rows;
  const end = slice.row + rows;
  for (const { name, row, rows: held } of stored.entries) {
    const [from, to] = [Math.max(row, slice.row), Math.min(row + held, end)];
    if (from >= to) continue;
    const bytes = source.read(name).subarray((from - row) * width, (to - row) * width);
    out.set(bytes, (from - slice.row) * width);
  }
}
