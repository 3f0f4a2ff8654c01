// What decoding with a model takes: its cache, and where attention stands under a processor's roofline, beside attention
// that caches keys and values.
import {
  type AttentionShape,
  cacheBytes,
  cacheElements,
  type DecodeSizes,
  decodeWork,
  type Peaks,
  roofline,
} from '@baleen/mla';
import type { TrainModelConfig } from '@baleen/trainer';

import { bytes, count, duration, flops, table, whole } from './format';

/** What decodes, and on what. */
export interface DecodeSettings {
  /** Tokens of each sequence. */
  context: number;
  /** Sequences that decode together. */
  sequences: number;
  /** The processor's. */
  peaks: Peaks;
}

/** One form of attention in one layer's decode step. */
export interface DecodeRow {
  /** Which. */
  attention: string;
  /** Type of its cache. */
  cache: 'bf16' | 'e4m3';
  /** Numbers cached a token and layer. */
  cacheElements: number;
  /** Bytes of them. */
  cacheBytes: number;
  /** Bytes a token over all layers. */
  modelBytes: number;
  /** Operations of a step. */
  flops: number;
  /** Bytes that it moves. */
  bytes: number;
  /** Operations a byte. */
  intensity: number;
  /** Its least time. */
  seconds: number;
  /** What bounds it. */
  bound: 'compute' | 'memory';
}

/** What decoding takes. */
export interface DecodeReport extends DecodeSettings {
  /** Operations a byte from which on arithmetic is the bound. */
  ridge: number;
  /** The model's attention first, then what it replaces. */
  rows: DecodeRow[];
}

/** Heads of keys and values that grouped-query attention is shown with: as many as DeepSeek 67B has. */
const groups = 8;

/**
 * What a decode step of one layer takes.
 * @param model - its sizes
 * @param settings - context, sequences and the processor
 * @returns numbers, for tables and programs
 */
export function decodeReport(model: TrainModelConfig, settings: DecodeSettings): DecodeReport {
  const { heads, nopeDim, ropeDim, valueDim, kvRank } = model.attention;
  const { context: length, sequences, peaks } = settings;
  const latents = { heads, nopeDim, ropeDim, valueDim, kvRank };
  // As one would build it without latents: rotary embeddings need no width of their own there.
  const cached = (kvHeads: number): AttentionShape => ({
    form: 'grouped',
    heads,
    kvHeads,
    queryWidth: nopeDim,
    valueWidth: valueDim,
  });
  const row = (name: string, form: AttentionShape, cache: DecodeRow['cache']): DecodeRow => {
    const sizes: DecodeSizes = { length, sequences, cache };
    const work = decodeWork(form, sizes);
    const { intensity, seconds, bound } = roofline(work, peaks);
    return {
      attention: name,
      cache,
      cacheElements: cacheElements(form),
      cacheBytes: cacheBytes(form, cache),
      modelBytes: model.layers * cacheBytes(form, cache),
      flops: work.flops,
      bytes: work.bytes,
      intensity,
      seconds,
      bound,
    };
  };
  const grouped = heads > groups && heads % groups === 0;
  return {
    ...settings,
    ridge: peaks.flopsPerSecond / peaks.bytesPerSecond,
    rows: [
      row('latents, absorbed', { form: 'absorbed', ...latents }, 'bf16'),
      row('latents, absorbed', { form: 'absorbed', ...latents }, 'e4m3'),
      row('latents, expanded', { form: 'expanded', ...latents }, 'bf16'),
      ...(grouped ? [row(`grouped-query, ${groups} heads`, cached(groups), 'bf16')] : []),
      row('multi-head', cached(heads), 'bf16'),
    ],
  };
}

/**
 * The report for people.
 * @param report - the numbers
 * @returns its lines
 */
export function decodeLines({ context, sequences, peaks, ridge, rows }: DecodeReport): string[] {
  const { flopsPerSecond, bytesPerSecond } = peaks;
  const lines = table(
    [
      ['', 'cache', 'numbers', 'bytes', 'all layers', 'work', 'moved', 'FLOP/B', 'time', 'bound'],
      ...rows.map((row) => [
        row.attention,
        row.cache,
        whole(row.cacheElements),
        whole(row.cacheBytes),
        whole(row.modelBytes),
        flops(row.flops),
        bytes(row.bytes),
        row.intensity.toPrecision(3),
        duration(row.seconds),
        row.bound,
      ]),
    ],
    [2, 3, 4, 5, 6, 7, 8],
  );
  return [
    `Cached a token and layer, and one layer’s attention when ${whole(sequences)} sequences of ${whole(context)} tokens each decode one more,`,
    `on ${count(flopsPerSecond)}FLOP/s and ${count(bytesPerSecond)}B/s, where arithmetic is the bound from ${whole(ridge)} FLOP a byte:`,
    '',
    ...lines,
  ];
}
