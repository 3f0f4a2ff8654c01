// `baleen train --dry-run`: memory by pool and time, from a step on the null backend; nothing is trained or written.
import { estimate } from '@baleen/trainer';

import { block, bytes, count, duration, flops, table, whole } from './format';
import type { Voice } from './io';
import { machine } from './machine';
import { fact } from './report';
import type { Settings } from './settings';

/** What each pool holds. */
const pools = [
  ['parameters', 'FP32 master weights'],
  ['gradients', 'FP32'],
  ['optimizer', 'AdamW’s moments'],
  ['caches', 'weights in the form products take, rotary tables'],
  ['state', 'router biases and counts'],
  ['inputs', 'a step’s tokens and sums'],
  ['region', 'between forward and backward, at most'],
] as const;

/** What travels, by kind. */
const sentWords = {
  gradients: 'gradients',
  weights: 'weights',
  experts: 'tokens and results of experts',
  stages: 'the stream from stage to stage',
} as const;

/**
 * Says what a run would need.
 * @param settings - the run
 * @param voice - where to say it
 */
export function dryRun(settings: Settings, voice: Voice): void {
  const { config, preset } = settings;
  const needed = estimate(config);
  const { secondsPerStep: seconds, tokensPerStep } = needed;
  voice.result({
    preset,
    precision: config.precision,
    steps: config.steps,
    ...needed,
    // The batch may grow: what counts is the tokens.
    seconds: seconds === null ? null : (seconds * needed.tokens) / tokensPerStep,
  });
  if (voice.json) return;
  const { bold, cyan, dim, red } = voice.out;
  const { total } = needed.bytes;
  const rows = pools.map(([name, what]) => ({ name, what, size: needed.bytes[name] }));
  const lines = table(
    rows.map(({ name, size }) => [name, bytes(size)]),
    [1],
  );
  const width = Math.max(...lines.map((line) => line.length));
  const here = machine();
  const { ranks } = config.layout;
  const fits = total <= here.memory;
  const { total: sent, ...ways } = needed.sent;
  const travels = Object.entries(ways)
    .filter(([, size]) => size > 0)
    .map(([way, size]) => `${bytes(size)} of ${sentWords[way as keyof typeof sentWords]}`);
  voice.print(
    '',
    bold(
      `Dry run of ${preset === null ? settings.name : `preset ${preset}`}: nothing is trained or written`,
    ),
    '',
    ...rows.map(
      ({ size, what }, index) =>
        `  ${lines[index].padEnd(width)}  ${cyan(block(size / total, 20).padEnd(20))} ${dim(what)}`,
    ),
    '',
    fact(
      'memory',
      ranks === 1
        ? `${bytes(total)} in all; this machine has ${bytes(here.memory)}, ${fits ? 'so it fits' : red('so it does not fit')}`
        : `${bytes(total)} on each of ${ranks} ranks at most; this machine has ${bytes(here.memory)}`,
      voice.out,
    ),
    ...(sent > 0
      ? [
          fact(
            'travels',
            `${bytes(sent)} from each rank in a step: ${travels.join(', ')}`,
            voice.out,
          ),
        ]
      : []),
    fact(
      'model',
      `${count(needed.params)} parameters, ${count(needed.activeParams)} active for a token`,
      voice.out,
    ),
    fact(
      'work',
      `${whole(config.steps)} steps of ${whole(tokensPerStep)} tokens in ${config.precision}: ${count(needed.tokens)} tokens, ${flops(needed.flopsPerStep)} a step`,
      voice.out,
    ),
    fact(
      'time',
      seconds === null
        ? 'unknown: only the native kernels measure this machine’s peaks (`baleen doctor`)'
        : `at least ${duration(seconds)} a step, ${duration((seconds * needed.tokens) / tokensPerStep)} in all: the bound of this machine’s peaks (\`baleen bench step\` measures)`,
      voice.out,
    ),
    '',
  );
}
