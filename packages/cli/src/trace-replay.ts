// A routing trace for `baleen loads`: read, routed again as flags say, and what came of it as lines.
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';

import {
  type BalancePolicy,
  type BiasRule,
  balancePolicy,
  isTrace,
  type RoutingTrace,
  readTrace,
  replayTrace,
  type TraceReplay,
} from '@baleen/moe-router';
import { type Command, Option } from 'commander';

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
      new Option('--rule <name>', 'of a trace: how biases follow the loads').choices([
        'sign',
        'proportional',
        'ema',
      ]),
    )
    .option(
      '--speed <x>',
      'of a trace: how far biases move a step (default: they stay)',
      numberFlag('--speed', { least: 0 }),
    )
    .option('--no-bias', 'of a trace: begin without the biases that the model had');
}

/**
 * Whether a path is a routing trace.
 * @param path - a file or folder, or nothing
 * @returns true for a file that begins as traces do
 */
export function isTraceFile(path: string): boolean {
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return false;
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
 * @throws `ERR_BALEEN_ROUTER_TRACE` for a file that is no whole trace, `ERR_BALEEN_ROUTER_SIZES` for a choice that cannot be
 */
export function replayFile(
  path: string,
  { topK, groups, groupsPerToken, rule, speed = 0, bias }: ReplayFlags,
): { trace: RoutingTrace; replay: TraceReplay; policy: BalancePolicy } {
  const trace = named(path, () => readTrace(readFileSync(path)));
  const policy = balancePolicy({ speed, ...(rule && { rule }) });
  const replay = replayTrace(trace, {
    choice: {
      ...(topK !== undefined && { expertsPerToken: topK }),
      ...(groups !== undefined && { groups }),
      ...(groupsPerToken !== undefined && { groupsPerToken }),
    },
    policy,
    ...(bias ? {} : { bias: null }),
  });
  return { trace, replay, policy };
}

/** Says which file it is about. */
function named<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw Object.assign(error as Error, { path });
  }
}

/** Two experts that serve the same tokens. */
export interface Pair {
  /** The experts, the lower one first. */
  experts: [number, number];
  /** How much more often than experts that were chosen apart from each other would. */
  lift: number;
}

/**
 * The experts of a layer that go together most.
 * @param together - [experts × experts], as `coActivation` has it
 * @param experts - experts of the layer
 * @param tokens - tokens that chose
 * @returns the pair of the greatest lift, or null where no two served the same token
 */
export function closestPair(together: Int32Array, experts: number, tokens: number): Pair | null {
  let best: Pair | null = null;
  for (let i = 0; i < experts; i += 1)
    for (let j = i + 1; j < experts; j += 1) {
      const both = together[i * experts + j];
      const apart = (together[i * (experts + 1)] * together[j * (experts + 1)]) / tokens;
      const lift = both === 0 ? 0 : both / apart;
      if (lift > (best?.lift ?? 0)) best = { experts: [i, j], lift };
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
  const heading = ['busiest expert of', ...loads.map((_, index) => `MoE ${index + 1}`)];
  return table(
    [heading, ...rows],
    loads.map((_, index) => index + 1),
  );
}
