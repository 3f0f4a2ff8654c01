// `baleen bench decode`: generation token by token over long contexts, in both forms of attention.
import { describeKernels, setThreads } from '@baleen/kernels';
import { benchDecode, type DecodeBenchmarkOptions, type DecodeResult } from '@baleen/trainer';
import type { Command } from 'commander';

import { usageError } from './errors';
import { addConfigFlags, among } from './flags';
import { bytes, duration, table, whole } from './format';
import type { Voice } from './io';
import { kernelLines } from './kernel-report';
import { numberFlag } from './numbers';
import { openProgress, paced } from './progress';
import { fact } from './report';
import { addCacheFlag } from './sampling-flags';
import { resolveSettings, type Settings, type SettingsOptions } from './settings';
import { addCommonFlags, examplesText, shaped } from './shape';

interface DecodeFlags extends SettingsOptions, Pick<DecodeBenchmarkOptions, 'cache'> {
  contexts: number[];
  batches: number[];
  warmUp: number;
}

/** Adds the subcommand. */
export function defineDecode(command: Command, voice: Voice): void {
  const decode = shaped(command.command('decode'), voice)
    .summary('time generation over long contexts')
    .description(
      'Time passes that make a token of each sequence, over caches that hold so many tokens each: attention in\n' +
        'the absorbed form, which reads latents as they lie, beside the expanded one, which makes keys and values\n' +
        'of all of them. Weights and caches are made up. Every configuration key that generation depends\n' +
        'on is a flag; --steps says how many passes are timed (12 without it).',
    );
  const taken = among('model', 'precision', 'fp8', 'steps', 'seed', 'threads');
  addConfigFlags(decode, (key) => taken(key) && !among('model.mtp')(key));
  decode
    .option(
      '--contexts <list>',
      'tokens cached of each sequence',
      list('--contexts'),
      [1024, 4096, 16384],
    )
    .option('--batches <list>', 'sequences at once', list('--batches'), [1, 8])
    .option(
      '--warm-up <seconds>',
      'passes before each form’s first measurement: JavaScript is compiled while it runs',
      numberFlag('--warm-up', { least: 0 }),
      2,
    );
  addCacheFlag(decode);
  decode.addHelpText(
    'after',
    examplesText([
      [
        'baleen bench decode',
        'one sequence and eight, of up to 16,384 tokens, at the shapes of small',
      ],
      ['baleen bench decode --precision fp32 --contexts 4096 --batches 1,2,4', 'other sizes'],
      ['baleen bench decode --cache fp8 --json', 'for programs'],
    ]),
  );
  addCommonFlags(decode);
  decode.action(async (flags: DecodeFlags & Readonly<Record<string, unknown>>) => {
    const settings = await resolveSettings(flags, 'small');
    await measure(
      settings,
      flags,
      typeof flags.steps === 'number' ? flags.steps : undefined,
      voice,
    );
  });
}

function list(flag: string): (text: string) => number[] {
  return (text) => {
    const counts = text.split(',').map((word) => (word.trim() === '' ? NaN : Number(word)));
    if (counts.every((count) => Number.isInteger(count) && count > 0)) return counts;
    throw usageError(
      'VALUE',
      `${flag} (${text}) is no list of whole numbers from 1`,
      'separate them by commas, as in 1024,4096',
      flag,
    );
  };
}

async function measure(
  { config, preset, name }: Settings,
  { contexts, batches, cache, warmUp }: DecodeFlags,
  steps: number | undefined,
  voice: Voice,
): Promise<void> {
  setThreads(config.threads);
  voice.say(`Timing generation of ${preset ?? name} in ${config.precision} with made-up caches …`);
  const progress = await openProgress(voice);
  let result;
  try {
    result = await benchDecode(config, {
      contexts,
      batches,
      warmUp,
      onProgress: paced(progress, 'timing'),
      ...(cache && { cache }),
      ...(steps === undefined ? {} : { steps }),
      ...(preset === null ? {} : { preset }),
    });
  } finally {
    progress.stop();
  }
  voice.result(result);
  if (voice.json) return;
  const { bold } = voice.out;
  voice.print('', bold(`Generation of ${preset ?? name} · ${result.precision}`), '');
  voice.print(fact('cache', result.cache, voice.out));
  kernelLines(describeKernels()).forEach((text, index) => {
    voice.print(fact(index === 0 ? 'kernels' : '', text, voice.out));
  });
  const row = ({ context, batch, form, ...one }: DecodeResult): string[] => [
    `${whole(context)} tokens`,
    `${batch} ${batch === 1 ? 'sequence' : 'sequences'}`,
    form,
    duration(one.medianStepSeconds),
    `${whole(one.tokensPerSecond)} tokens/s`,
    bytes(one.cacheBytes),
  ];
  voice.print('', ...table(result.cases.map(row), [0, 3, 4, 5]).map((line) => `  ${line}`), '');
}
