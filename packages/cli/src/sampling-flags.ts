// The flags of commands that let a model write.
import type { Decoder, GenerateOptions } from '@baleen/model';
import { type DraftCounts, draftCounts, draftRates } from '@baleen/mtp';
import type { Command } from 'commander';

import { usageError } from './errors';
import { percent } from './format';
import { numberFlag } from './numbers';
import type { WriteOptions } from './writing';

/** What they hold. */
export interface SamplingFlags {
  /** Most tokens. */
  tokens: number;
  /** 0 takes the likeliest. */
  temperature: number;
  /** Probability kept. */
  topP: number;
  /** Null or absent: a new one. */
  seed?: number;
  /** What cached latents take. */
  cache?: NonNullable<GenerateOptions['cache']>;
  /** Tokens drafted at a time. */
  drafts: number;
  /** Threads of the kernels. */
  threads: number;
}

const caches = ['fp32', 'bf16', 'fp8'] as const;

/**
 * Adds them.
 * @param command - to which
 * @param tokens - most tokens without a flag
 * @param of - what they are made for, as help says it
 */
export function addSamplingFlags(command: Command, tokens: number, of: string): void {
  command
    .option(
      '--tokens <n>',
      `most tokens of ${of}`,
      numberFlag('--tokens', { least: 1, whole: true }),
      tokens,
    )
    .option(
      '--temperature <t>',
      '0 takes the likeliest token; higher is more varied',
      numberFlag('--temperature', { least: 0 }),
      0.8,
    )
    .option(
      '--top-p <p>',
      'keep the likeliest tokens that together reach this probability',
      numberFlag('--top-p', { least: 0, most: 1 }),
      0.95,
    )
    .option(
      '--seed <n>',
      'the same seed gives the same text (default: a new one)',
      numberFlag('--seed', { whole: true }),
    )
    .option(
      '--drafts <n>',
      'tokens drafted at a time by multi-token prediction, to save passes; at temperature 0 the text stays the same',
      numberFlag('--drafts', { least: 0, most: 16, whole: true }),
      0,
    )
    .option(
      '--threads <n>',
      'threads of the kernels; 0 for every core',
      numberFlag('--threads', { least: 0, whole: true }),
      0,
    );
  addCacheFlag(command);
}

/**
 * Adds `--cache`.
 * @param command - to which
 */
export function addCacheFlag(command: Command): void {
  command.option(
    '--cache <format>',
    'what cached latents take: fp32, bf16 or fp8 (default: as the model computes, fp32 or bf16)',
    cacheFlag,
  );
}

function cacheFlag(text: string): (typeof caches)[number] {
  const found = caches.find((name) => name === text);
  if (found) return found;
  const message = `--cache (${text}) is none of ${caches.join(', ')}`;
  throw usageError('VALUE', message, `give one of ${caches.join(', ')}`, '--cache');
}

/**
 * What they say of writing.
 * @param flags - the flags
 * @param seed - where they name none
 * @param model - what writes
 * @returns how to write
 * @throws ERR_BALEEN_USAGE_DRAFTS for drafts of a model that makes none
 */
export function writeOptions(
  flags: SamplingFlags,
  seed: number,
  model: Pick<Decoder, 'mtp'>,
): WriteOptions {
  const { tokens, temperature, topP, cache, drafts } = flags;
  if (drafts > 0 && model.mtp.length === 0)
    throw usageError(
      'DRAFTS',
      `--drafts ${drafts} of a model without multi-token prediction`,
      'leave --drafts out, or train with --model.mtp.depth 1 or more',
      '--drafts',
    );
  return {
    tokens,
    temperature,
    topP,
    seed: flags.seed ?? seed,
    ...(cache && { cache }),
    ...(drafts > 0 && { drafts, counts: draftCounts() }),
  };
}

/**
 * What became of drafts, in words.
 * @param counts - what did; nothing where there were none to be made
 * @returns a part of a sentence, from its comma; nothing likewise
 */
export function draftsInWords(counts: DraftCounts | undefined): string {
  if (!counts) return '';
  const { rate, tokensPerPass } = draftRates(counts);
  if (rate === null || tokensPerPass === null) return ', nothing was drafted';
  return `, ${percent(rate)} of drafts stayed: ${tokensPerPass.toFixed(2)} tokens a pass`;
}

/**
 * The same for programs.
 * @param options - how was written
 * @returns `drafts`, or nothing where there were none to be made
 */
export function draftsReport({ drafts = 0, counts }: WriteOptions): object {
  return counts ? { drafts: { atOnce: drafts, ...draftRates(counts) } } : {};
}
