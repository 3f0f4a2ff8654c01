// A routing trace for `baleen loads`: read, routed again as flags say, and what came of it as lines.
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

import {
  type BiasRule,
  balancePolicy,
  isTrace,
  type RoutingTrace,
  readTrace,
  replayTrace,
  type TraceReplay,
} from '@baleen/moe-router';
import { type Command, Option } from 'commander';

import { usageError } from './errors';
import { table } from './format';
import { numberFlag } from './numbers';

/** Flags of a trace that is routed again. */
export interface ReplayFlags {
  topK?: number;
  groups?: number;
  groupsPerToken?: number;
  rule?: BiasRule;
  speed?: number;
  /** False for `--no-bias`. */
  bias: boolean;
}

/** Names of the flags, for messages. */
export const replayFlagNames = [
  '--top-k',
  '--groups',
  '--groups-per-token',
  '--rule',
  '--speed',
  '--no-bias',
] as const;

/** Adds them. */
export function addReplayFlags(command: Command): void {
  const count = (flag: string): ((text: string) => number) =>
    numberFlag(flag, { least: 1, whole: true });
  command
    .option('--top-k <n>', 'of a trace: experts a token', count('--top-k'))
    .option('--groups <n>', 'of a trace: groups of experts', count('--groups'))
    .option(
      '--groups-per-token <n>',
      'of a trace: groups a token may reach',
      count('--groups-per-token'),
    )
    .addOption(
      new Option(
        '--rule <name>',
        'of a trace: how biases follow the loads (default: sign)',
      ).choices(['sign', 'proportional', 'ema']),
    )
    .option(
      '--speed <x>',
      'of a trace: γ, how far biases move after each of its batches (default: they stay)',
      numberFlag('--speed', { least: 0 }),
    )
    .option('--no-bias', 'of a trace: begin without the biases that the model had');
}

/**
 * Whether a path is a routing trace.
 * @param path - a file
 * @returns true where it begins as traces do
 */
export function isTraceFile(path: string): boolean {
  const head = new Uint8Array(16);
  const fd = openSync(path, 'r');
  try {
    return isTrace(head.subarray(0, readSync(fd, head)));
  } finally {
    closeSync(fd);
  }
}

/**
 * Reads a trace and routes it again.
 * @param path - the file
 * @param flags - see {@link ReplayFlags}
 * @returns both
 * @throws `ERR_BALEEN_ROUTER_TRACE` for a file that is no whole trace, `ERR_BALEEN_USAGE_…` for a choice that cannot be
 */
export function replayFile(
  path: string,
  { topK, groups, groupsPerToken, rule, speed, bias }: ReplayFlags,
): { trace: RoutingTrace; replay: TraceReplay } {
  if (rule !== undefined && speed === undefined)
    throw usageError(
      'RULE',
      `--rule ${rule} moves no bias without a speed`,
      'add --speed',
      '--rule',
    );
  const trace = readTraceFile(path);
  const choice = {
    ...(topK !== undefined && { expertsPerToken: topK }),
    ...(groups !== undefined && { groups }),
    ...(groupsPerToken !== undefined && { groupsPerToken }),
  };
  try {
    const policy = balancePolicy({ speed: speed ?? 0, ...(rule && { rule }) });
    return { trace, replay: replayTrace(trace, { choice, policy, ...(!bias && { bias: null }) }) };
  } catch (error) {
    const { path: key, message, hint } = error as { path?: string; message: string; hint?: string };
    const flag = flagOf[key ?? ''];
    if (flag === undefined) throw error;
    throw usageError('VALUE', `of ${path}, ${message}`, hint ?? 'choose another', flag);
  }
}

/** The flag that sets a size of the choice. */
const flagOf: Readonly<Partial<Record<string, string>>> = {
  expertsPerToken: '--top-k',
  groups: '--groups',
  groupsPerToken: '--groups-per-token',
};

function readTraceFile(path: string): RoutingTrace {
  try {
    return readTrace(readFileSync(path));
  } catch (error) {
    const { code = '', message, hint } = error as Error & { code?: string; hint?: string };
    const own = code.startsWith('ERR_BALEEN_');
    throw Object.assign(new Error(`${path} cannot be read: ${message}`, { cause: error }), {
      code: own ? code : 'ERR_BALEEN_ROUTER_TRACE',
      path,
      hint: own ? hint : 'traces have at most 2 GiB, and must be readable',
    });
  }
}

/** Two experts that serve the same tokens. */
export interface Pair {
  /** The experts, the lower one first. */
  experts: [number, number];
  /** Tokens that both served. */
  tokens: number;
  /** How much more often than experts that were chosen apart from each other would. */
  lift: number;
}

/** Tokens that two experts should share by chance, at least, for their lift to say something. */
const leastExpected = 20;

/**
 * The experts of a layer that go together most.
 * @param together - [experts × experts], as `coActivation` has it
 * @param experts - experts of the layer
 * @param tokens - tokens that chose
 * @returns the pair of the greatest lift among those that would share 20 tokens by chance, or null without any
 */
export function closestPair(together: Int32Array, experts: number, tokens: number): Pair | null {
  let best: Pair | null = null;
  for (let i = 0; i < experts; i += 1)
    for (let j = i + 1; j < experts; j += 1) {
      const both = together[i * experts + j];
      const expected = (together[i * (experts + 1)] * together[j * (experts + 1)]) / tokens;
      if (expected < leastExpected || both / expected <= (best?.lift ?? 0)) continue;
      best = { experts: [i, j], tokens: both, lift: both / expected };
    }
  return best;
}

/**
 * Which expert each domain asks for most.
 * @param domains - their names
 * @param loads - of each layer [domains × experts]
 * @returns lines of a table, a row a domain
 */
export function domainLines(domains: readonly string[], loads: readonly Int32Array[]): string[] {
  const rows = domains.map((name, d) => [
    name,
    ...loads.map((own) => {
      const experts = own.length / domains.length;
      const mine = own.subarray(d * experts, (d + 1) * experts);
      const mean = mine.reduce((sum, tokens) => sum + tokens, 0) / experts;
      const top = mine.indexOf(Math.max(...mine));
      return mean === 0 ? 'none' : `${top} (× ${(mine[top] / mean).toFixed(2)})`;
    }),
  ]);
  const heading = ['busiest expert (× mean)', ...loads.map((_, index) => `MoE ${index + 1}`)];
  return table(
    [heading, ...rows],
    loads.map((_, index) => index + 1),
  );
}
