// `baleen train`: from a configuration to a run folder, a live line while it works and a report at its end.
import { resolve } from 'node:path';

import type { Communicator } from '@baleen/comm';
import { describeKernels } from '@baleen/kernels';
import {
  checkRunLock,
  openRun,
  readMetrics,
  type TrainConfig,
  type TrainResult,
  train,
} from '@baleen/trainer';
import type { Command } from 'commander';

import { dryRun } from '../dry-run';
import { usageError } from '../errors';
import { addConfigFlags } from '../flags';
import { quote, whole } from '../format';
import { invocation } from '../invocation';
import type { Voice } from '../io';
import { joinLaunched, type Launched, silently } from '../launched';
import { addRankFlags, type RankFlags, rankOptions } from '../rank-flags';
import { report, type Sample } from '../report';
import { checkOut, claimRunFolder, releaseRunFolder, runOf, shown } from '../run-folder';
import { sampleOf } from '../sample';
import { resolveSettings, type Settings, type SettingsOptions } from '../settings';
import { addCommonFlags, examplesText } from '../shape';
import { slowPath } from '../slow-path';
import { watch } from '../watch';

interface TrainFlags extends SettingsOptions, RankFlags, Readonly<Record<string, unknown>> {
  out?: string;
  dryRun?: boolean;
}

/** Adds flags, help and the action. */
export function define(command: Command, voice: Voice): void {
  command.description(
    'Train a model on text. Without a preset or a file it trains `tiny` on Moby-Dick.\n' +
      'Every configuration key is a flag. Flags win over the file, the file over the preset.\n' +
      'Ctrl-C finishes the step, saves and says how to resume; a second one stops at once.',
  );
  addConfigFlags(command);
  command
    .option('--out <folder>', 'run folder (default: runs/<preset>-<n>, the next that is free)')
    .option('--resume <run>', 'go on from the newest checkpoint of a run, or from one of them')
    .option('--dry-run', 'only say what it would need: memory by pool, time');
  addRankFlags(command);
  command.addHelpText(
    'after',
    examplesText([
      ['baleen train --preset tiny', 'a small model on Moby-Dick, in a minute or two'],
      ['baleen train --preset small --data notes/ --out runs/notes', 'your own text'],
      ['baleen train --preset tiny --model.moe.routedExperts 16 --precision bf16', 'other sizes'],
      ['baleen train --config mine.yaml --steps 2000', 'a file, and a flag that wins over it'],
      ['baleen train --resume runs/tiny-1', 'go on where a run was stopped'],
      [
        'baleen train --preset small --ranks 2 --ep 2',
        'two ranks as threads, experts spread over both',
      ],
      [
        'mpirun -n 4 baleen train --preset small --ep 2',
        'four processes, two groups with all experts',
      ],
      [
        'baleen train --preset small --pp 2 --schedule dualpipe --ep 2',
        'four ranks: two stages of the model, the experts of each on two ranks',
      ],
      [
        'baleen train --preset small --ranks 4 --launch "mpirun --hostfile hosts" --max-restarts 3',
        'starts the processes itself, and goes on from the last checkpoint when one dies or hangs',
      ],
      [
        'baleen train --ranks 2 --checkpoint.every 5 --max-restarts 1 --inject kill-rank=1@step=10',
        'a drill: rank 1 dies in step 10, and the run goes on from step 5',
      ],
      ['baleen train --preset v3-671b --dry-run', 'memory and time before a step is run'],
    ]),
  );
  addCommonFlags(command);
  command.action(async (options: TrainFlags) => {
    // Before anything is read: what the other process has written so far may not be a whole run.
    if (options.resume !== undefined && options.out === undefined && !options.dryRun)
      checkRunLock(runOf(options.resume));
    const launched = options.dryRun ? null : joinLaunched(voice.io.env, options);
    const rank = launched?.communicator.rank ?? 0;
    if (rank === 0) await trainAs(options, launched, voice);
    else await silently(rank, voice, async (silent) => trainAs(options, launched, silent));
  });
}

async function trainAs(
  options: TrainFlags,
  launched: Launched | null,
  voice: Voice,
): Promise<void> {
  const layer = launched?.layer;
  const settings = await resolveSettings(options, 'tiny', undefined, layer);
  if (options.dryRun) {
    dryRun(settings, voice);
    return;
  }
  const slow = slowPath(settings, describeKernels());
  if (slow) voice.warn(slow.note);
  await runTraining(
    slow ? await resolveSettings(options, 'tiny', slow.layer, layer) : settings,
    options,
    launched?.communicator,
    voice,
  );
}

async function runTraining(
  settings: Settings,
  options: TrainFlags,
  communicator: Communicator | undefined,
  voice: Voice,
): Promise<void> {
  const { resume } = options;
  // The first rank's folder is everyone's.
  const leads = (communicator?.rank ?? 0) === 0;
  const words = invocation(voice.io.env, process.cwd());
  // A resumed run goes on in its own folder, unless --out branches off into another.
  const own = settings.resumed?.run ?? null;
  const given = options.out === undefined ? own : resolve(options.out);
  const before = finished(settings, given);
  if (before) {
    sayComplete(before, words, voice);
    return;
  }
  if (leads && options.out !== undefined && given !== own) checkOut(options.out, words);
  const claimed = leads && given === null ? claimRunFolder(settings.name) : undefined;
  const out = given ?? claimed ?? null;
  const signal = voice.io.interrupts();
  const begin = (onEvaluation: (share: number) => void): ReturnType<typeof train> =>
    train(settings.config, {
      out,
      signal,
      onEvaluation,
      origins: settings.origins,
      ...(communicator && { communicator }),
      ...rankOptions(options, voice),
      ...(settings.preset === null ? {} : { preset: settings.preset }),
      ...(resume === undefined ? {} : { resume }),
    });
  try {
    const { result, start, stopped } = await watch(begin, settings, voice, signal);
    if (!leads) return;
    voice.result(result);
    const folder = quote(shown(out ?? ''));
    const resumeWith = `${words} train --resume ${folder}`;
    if (voice.json) {
      if (stopped) voice.say(`  Stopped; go on with ${resumeWith}`);
      return;
    }
    if (stopped) {
      const { bold, cyan, dim } = voice.out;
      voice.print(
        '',
        `  ${bold(`Stopped after step ${stopped.step} of ${start.steps}`)}; everything is in ${folder}.`,
        `  ${dim('go on')}  ${cyan(resumeWith)}`,
        '',
      );
      return;
    }
    voice.print(
      ...report({
        result: result.run === null ? result : { ...result, run: shown(result.run) },
        start,
        kernels: { ...describeKernels(), threads: start.kernels.threads },
        sample: await sampleOfRun(result, settings.config),
        next: nextCommands(result, settings, options, words),
        colors: voice.out,
        width: Math.min(voice.io.stdout.columns ?? 80, 96),
      }),
    );
  } catch (error) {
    if (claimed !== undefined) releaseRunFolder(claimed);
    throw error;
  }
}

/** What the run to resume came to if it is complete; null while there is something left to do. */
function finished({ config, resumed }: Settings, out: string | null): TrainResult | null {
  const { steps } = config;
  if (resumed?.step !== steps) return null;
  const { run, checkpoint } = resumed;
  if (run === null || run !== out)
    throw usageError(
      'RESUME',
      `--resume ${shown(run ?? checkpoint)} has all of its ${whole(steps)} steps done`,
      `say how many it shall have with --steps, such as --steps ${2 * steps}`,
      '--steps',
    );
  // Without its end the last measurement was interrupted. The run may have been moved since.
  const last = readMetrics(run).at(-1);
  return last?.type === 'end' && last.result.steps === steps ? { ...last.result, run } : null;
}

/** Says that a run has all of its steps: no failure, so that what resumes it until it is done may ask once more. */
function sayComplete(result: TrainResult, words: string, voice: Voice): void {
  const { bold, cyan, dim } = voice.out;
  const { steps, valBitsPerByte } = result;
  const folder = quote(shown(result.run ?? ''));
  const score =
    valBitsPerByte === null ? '' : `, ${valBitsPerByte.toFixed(3)} bits per byte on held-out text`;
  const more = `${words} train --resume ${folder} --steps ${2 * steps}`;
  voice.result(result);
  if (voice.json) voice.say(`  ${folder} is complete; go on with ${more}`);
  voice.print(
    '',
    `  ${bold(`${folder} is complete`)}: all of its ${whole(steps)} steps are done${score}.`,
    `  ${dim('go on')}    ${cyan(more)}`,
    `  ${dim('measure')}  ${cyan(`${words} eval ${folder}`)}`,
    '',
  );
}

async function sampleOfRun(result: TrainResult, config: TrainConfig): Promise<Sample | null> {
  if (result.run === null) return null;
  const { model, tokenizer } = await openRun(result.run);
  return await sampleOf(model, tokenizer, config);
}

function nextCommands(
  { run, precision, preset }: TrainResult,
  { config }: Settings,
  options: TrainFlags,
  words: string,
): (readonly [string, string])[] {
  if (run === null) return [];
  const folder = quote(shown(run));
  const prompt = config.data.sources.includes('moby-dick') ? 'The whale' : 'The';
  const other = precision === 'bf16' ? 'fp8' : 'bf16';
  // A run's config.json holds every flag it was given; a bare preset is shorter.
  const bare = Object.keys(options).every((key) => key === 'preset' || key === 'out');
  const same = bare && preset !== null ? `--preset ${preset}` : `--config ${folder}/config.json`;
  return [
    [`${words} generate ${folder} --prompt ${quote(prompt)}`, 'let it write'],
    [`${words} eval ${folder}`, 'measure it again'],
    [`${words} train ${same} --precision ${other}`, `the same in ${other}, to compare`],
  ];
}
