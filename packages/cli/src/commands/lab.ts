// `baleen lab <name>`: a published claim measured again, from settings that are printed first to a verdict.
import { describeKernels } from '@baleen/kernels';
import { didYouMean, inequalityText, type Lab, type LabRow, labs, runLab } from '@baleen/trainer';
import { type Command, Option } from 'commander';

import { usageError } from '../errors';
import { duration, wrap } from '../format';
import type { Voice } from '../io';
import { claimsOf, gridLines, planLines, publishedText, verdictLines } from '../lab-report';
import { numberFlag } from '../numbers';
import { checkPlace, writeResult } from '../output-file';
import { openProgress, paced } from '../progress';
import { fact } from '../report';
import { addCommonFlags, examplesText } from '../shape';

interface LabFlags {
  full?: boolean;
  seed: number;
  out?: string;
}

/** Adds arguments, flags, help and the action. */
export function define(command: Command, voice: Voice): void {
  command
    .description(
      'Measure a published claim again, at a size that runs here. Settings and the inequality behind the\n' +
        'verdict are printed first; a claim that does not hold here is reported as it is.',
    )
    .argument('[name]', `list (the default), or one of: ${labs.map(({ name }) => name).join(', ')}`)
    .addOption(new Option('--quick', 'end within 3 minutes on two cores (the default)'))
    .addOption(
      new Option('--full', 'take the time it needs, which is estimated first').conflicts('quick'),
    )
    .option(
      '--seed <n>',
      'the first seed; pairs of runs count up from it',
      numberFlag('--seed', { least: 0, whole: true }),
      1,
    )
    .option('--out <file>', 'write the full record as JSON: settings, grid, pairs, verdict')
    .addHelpText(
      'after',
      examplesText([
        ['baleen lab list', 'what can be measured'],
        ['baleen lab fp8-loss', 'FP8 against BF16, in minutes'],
        ['baleen lab fp8-loss --full --out fp8-loss.json', 'larger, and the record kept'],
        ['baleen lab fp8-dgrad-blocks --json --seed 100', 'other seeds, for programs'],
      ]),
    );
  addCommonFlags(command);
  command.action(async (name: string | undefined, flags: LabFlags) => {
    if (name === undefined || name === 'list') list(voice);
    else await measure(labNamed(name), flags, voice);
  });
}

function labNamed(name: string): Lab {
  const found = labs.find((lab) => lab.name === name);
  if (found) return found;
  const names = labs.map((lab) => lab.name);
  throw usageError(
    'LAB',
    `there is no lab ${name}`,
    didYouMean(name, [...names, 'list'], `the labs are ${names.join(', ')}`),
    name,
  );
}

function list(voice: Voice): void {
  voice.result({
    labs: labs.map((lab) => ({
      lab: lab.name,
      claim: lab.claim,
      source: lab.source,
      published: lab.published,
      holdsIf: inequalityText(lab),
      ...(lab.further && {
        further: lab.further.map((claim) => ({
          claim: claim.claim,
          published: claim.published,
          holdsIf: inequalityText(claim),
        })),
      }),
    })),
  });
  const { bold, cyan, dim } = voice.out;
  for (const lab of labs)
    voice.print(
      bold(cyan(lab.name)),
      ...claimsOf(lab).flatMap((claim) => [
        ...wrap(claim.claim, 76).map((line) => `    ${line}`),
        dim(`    ${lab.source}; published: ${publishedText(claim)}`),
      ]),
    );
}

async function measure(lab: Lab, flags: LabFlags, voice: Voice): Promise<void> {
  const { out } = flags;
  if (out !== undefined) checkPlace('--out', out);
  const { implementation } = describeKernels();
  if (implementation !== 'native')
    voice.warn(`the ${implementation} kernels are slow: labs that train take hours on them`);
  const signal = voice.io.interrupts();
  const progress = await openProgress(voice);
  const interrupted = (): void => {
    progress.stop();
    voice.say('  Stopping. Ctrl-C again stops at once.');
  };
  signal.addEventListener('abort', interrupted, { once: true });
  const show = paced(progress, 'measuring');
  const rows: LabRow[] = [];
  let record;
  try {
    record = await runLab(lab, {
      budget: flags.full ? 'full' : 'quick',
      seed: flags.seed,
      signal,
      onPlan: (plan, seconds) => {
        // What is settled before belongs to the result.
        const tell = voice.json ? voice.say.bind(voice) : voice.print.bind(voice);
        tell(...planLines(lab, plan, voice.json ? voice.err : voice.out));
        if (seconds !== null)
          voice.say(fact('time', `about ${duration(seconds)}, by an estimate made now`, voice.err));
        voice.say('');
      },
      onProgress: (share, parts) => {
        if (!signal.aborted) show(share, parts);
      },
      onRow: (row) => rows.push(row),
    });
  } catch (error) {
    progress.stop();
    if (signal.aborted && rows.length > 0)
      voice.say('  Measured until then:', '', ...gridLines(rows, voice.err), '');
    throw error;
  } finally {
    signal.removeEventListener('abort', interrupted);
    progress.stop();
  }
  if (out !== undefined) writeResult('--out', out, record, 'ERR_BALEEN_LAB_OUT');
  const { result, rows: grid, notes, kernels } = record;
  voice.result(result);
  voice.print(
    ...gridLines(grid, voice.out),
    '',
    ...verdictLines(lab, record, voice.out),
    ...notes.map((note) => fact('also', note, voice.out)),
    fact(
      'took',
      `${duration(result.seconds)} on ${kernels.implementation} kernels, ${kernels.isa}, ${kernels.threads} threads`,
      voice.out,
    ),
    ...(out === undefined ? [] : [fact('record', out, voice.out)]),
  );
}
