// `baleen eval <run or checkpoint>`: held-out loss and bits per byte, on the run's own split or on other text.

import { describeKernels, setThreads } from '@baleen/kernels';
import type { Decoder } from '@baleen/model';
import { writeTrace } from '@baleen/moe-router';
import {
  type Baseline,
  type DepthScore,
  evaluate,
  loadDocuments,
  openRun,
  readMetrics,
  splitDocuments,
  type TextDocument,
  TraceRecorder,
  type TrainConfig,
} from '@baleen/trainer';
import type { Command } from 'commander';

import { usageError } from '../errors';
import { balance, bytes, duration, percent, whole } from '../format';
import type { Voice } from '../io';
import { kernelLines } from '../kernel-report';
import { ladder, place } from '../ladder';
import { numberFlag } from '../numbers';
import { checkPlace, writeResult } from '../output-file';
import { openProgress, paced } from '../progress';
import { fact } from '../report';
import { runOf, shown } from '../run-folder';
import { addCommonFlags, examplesText } from '../shape';

interface EvalFlags {
  data?: string[];
  precision?: TrainConfig['precision'];
  threads: number;
  trace?: string;
}

/** Adds arguments, flags, help and the action. */
export function define(command: Command, voice: Voice): void {
  command
    .description(
      'Measure loss and bits per byte on the text that a run held out, every byte counted, or on other text.',
    )
    .argument('<run>', 'a run folder, one of its checkpoints, or a Hugging Face folder')
    .option(
      '--data <names>',
      'other text, all of it, by commas: moby-dick, sotu, or paths of files and folders',
      (text: string, before: string[] | undefined) => [...(before ?? []), ...text.split(',')],
    )
    .addOption(
      command
        .createOption(
          '--precision <name>',
          'inputs of the linear layers’ products (default: the run’s)',
        )
        .choices(['fp8', 'bf16', 'fp32']),
    )
    .option(
      '--threads <n>',
      'threads of the kernels; 0 for every core',
      numberFlag('--threads', { least: 0, whole: true }),
      0,
    )
    .option(
      '--trace <file>',
      'write what the routers saw, for `baleen loads`: at most 1 GiB of scores',
    )
    .addHelpText(
      'after',
      examplesText([
        ['baleen eval runs/tiny-1', 'the run’s newest checkpoint on its held-out text'],
        ['baleen eval runs/tiny-1 --precision fp32', 'what FP8 costs'],
        ['baleen eval runs/tiny-1/checkpoints/step-2200 --data letters/', 'other text'],
        [
          'baleen eval runs/tiny-1 --data moby-dick,sotu --trace routing.trace',
          'who asks for whom',
        ],
      ]),
    );
  addCommonFlags(command);
  command.action(async (run: string, flags: EvalFlags) => {
    await score(run, flags, voice);
  });
}

async function score(path: string, flags: EvalFlags, voice: Voice): Promise<void> {
  if (flags.trace !== undefined) checkPlace('--trace', flags.trace);
  setThreads(flags.threads);
  const opened = await openRun(
    path,
    flags.precision === undefined ? {} : { precision: flags.precision },
  );
  const { model, tokenizer, config, step, folder } = opened;
  const documents = await documentsOf(path, config, flags.data);
  const recorder = flags.trace === undefined ? null : recorderOf(path, model, documents);
  const what = flags.data === undefined ? 'held-out text' : flags.data.join(', ');
  voice.say(voice.err.dim(`${shown(folder)} on ${what}`));
  const progress = await openProgress(voice);
  const began = performance.now();
  let result;
  try {
    result = await evaluate(model, tokenizer, documents, {
      ...(config === null
        ? {}
        : { sequence: config.batch.sequence, stride: config.evaluation.stride }),
      onProgress: paced(progress, 'scoring'),
      ...(recorder && { routing: recorder }),
    });
  } finally {
    progress.stop();
  }
  const seconds = (performance.now() - began) / 1000;
  if (flags.trace !== undefined && recorder)
    writeResult('--trace', flags.trace, writeTrace(recorder.trace()), 'ERR_BALEEN_EVAL_TRACE');
  const baselines = flags.data === undefined ? baselinesOf(folder) : [];
  voice.result({
    run: folder,
    step,
    precision: model.precision,
    data: flags.data ?? null,
    ...result,
    baselines,
    ...(flags.trace === undefined ? {} : { trace: flags.trace }),
    seconds,
  });
  if (voice.json) return;
  const { bold } = voice.out;
  const where = place(baselines, result.bitsPerByte);
  voice.print(
    '',
    `  ${bold(`${result.bitsPerByte.toFixed(3)} bits per byte`)} on ${bytes(result.bytes)} of ${what}${where === '' ? '' : `, ${where}`}`,
    '',
  );
  if (baselines.length > 0)
    voice.print(
      ...ladder(
        baselines,
        result.bitsPerByte,
        voice.out,
        Math.min(voice.io.stdout.columns ?? 80, 96),
      ),
      '',
    );
  voice.print(
    fact(
      'loss',
      `${result.loss.toFixed(4)} nats a token, over ${whole(result.tokens)} tokens`,
      voice.out,
    ),
    fact(
      'likeliest',
      `${percent(result.accuracy)} of tokens were the model’s first guess`,
      voice.out,
    ),
    ...result.mtp.map((score, k) => fact(`depth ${k + 1}`, depthText(score), voice.out)),
    fact(
      'experts',
      `the busiest has ${balance(result.maxViolation)} over an even share`,
      voice.out,
    ),
    fact('speed', `${duration(seconds)} in ${model.precision}`, voice.out),
  );
  kernelLines(describeKernels()).forEach((text, index) => {
    voice.print(fact(index === 0 ? 'kernels' : '', text, voice.out));
  });
  if (flags.trace !== undefined) voice.print(fact('trace', flags.trace, voice.out));
  voice.print(fact('from', `${shown(folder)}, step ${whole(step)}`, voice.out), '');
}

/** Watches the routers, where there are any. */
function recorderOf(
  path: string,
  model: Decoder,
  documents: readonly TextDocument[],
): TraceRecorder {
  if (model.layers.some(({ router }) => router !== null))
    return new TraceRecorder(model, documents);
  throw usageError(
    'TRACE',
    `${path} has no experts, so that there is nothing to trace`,
    'leave --trace out',
    '--trace',
  );
}

async function documentsOf(
  path: string,
  config: TrainConfig | null,
  data: readonly string[] | undefined,
): Promise<TextDocument[]> {
  if (data !== undefined) return await loadDocuments(data);
  if (config === null)
    throw usageError(
      'DATA',
      `${path} does not say what text it was trained on`,
      'name text with --data',
      '--data',
    );
  const documents = await loadDocuments(config.data.sources);
  return splitDocuments(documents, config.data.heldOutEvery).heldOut;
}

/** What a depth of multi-token prediction came to. */
function depthText({ loss, accuracy, acceptance }: DepthScore): string {
  if (loss === null || accuracy === null || acceptance === null) return 'no text is long enough';
  const agreed = `${percent(acceptance)} the main model’s likeliest`;
  return `${loss.toFixed(4)} nats a token, ${percent(accuracy)} of them the likeliest, ${agreed}`;
}

/** The n-gram models that the run was compared with, on the same split. */
function baselinesOf(checkpoint: string): Baseline[] {
  const start = readMetrics(runOf(checkpoint)).find((event) => event.type === 'start');
  return start?.baselines ?? [];
}
