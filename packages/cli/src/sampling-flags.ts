// The flags of commands that let a model write.
import type { GenerateOptions } from '@baleen/model';
import type { Command } from 'commander';

import { usageError } from './errors';
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
 * @returns how to write
 */
export function writeOptions(flags: SamplingFlags, seed: number): WriteOptions {
  const { tokens, temperature, topP, cache } = flags;
  return { tokens, temperature, topP, seed: flags.seed ?? seed, ...(cache && { cache }) };
}
