// `baleen audit <checkpoint or run>`: the FP8 health of weights, tensor by tensor, or of a training step's operands.
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { setThreads } from '@baleen/kernels';
import {
  type AuditOptions,
  auditCheckpoint,
  type CheckpointAudit,
  quantizationFromHuggingFace,
  type TensorSource,
} from '@baleen/model';
import { openSafetensors, openWeights, readConfig } from '@baleen/model/node';
import { auditStep, findRun, type TrainConfig } from '@baleen/trainer';
import type { Command } from 'commander';

import { auditLines, findingLines, operandRows, weightRows } from '../audit-report';
import { usageError } from '../errors';
import { bytes, duration, whole } from '../format';
import type { Voice } from '../io';
import { numberFlag } from '../numbers';
import { openProgress, paced } from '../progress';
import { fact } from '../report';
import { shown } from '../run-folder';
import { isPreset, presetOf } from '../settings';
import { addCommonFlags, examplesText } from '../shape';

interface AuditFlags {
  all?: boolean;
  step?: boolean;
  threads: number;
}

/** Adds arguments, flags, help and the action. */
export function define(command: Command, voice: Voice): void {
  command
    .description(
      'Look at the FP8 health of a model: signal to noise, values lost at both ends, ranges of scales, and\n' +
        'mistakes that give a model which runs and is wrong. Of weights in BF16 or F32: what FP8 would cost.\n' +
        'Exits with 1 where there are findings.',
    )
    .argument(
      '<target>',
      'a Hugging Face folder, a safetensors file, a run, or one of its checkpoints',
    )
    .option(
      '--step',
      'take a training step of the run, or the first of a preset, forward and backward on its text, and look at\n' +
        'every FP8 operand: activations, weights, gradients and what is kept; nothing is updated or written',
    )
    .option('--all', 'every weight in the model’s order, and every finding')
    .option(
      '--threads <n>',
      'threads of the kernels; 0 for every core',
      numberFlag('--threads', { least: 0, whole: true }),
      0,
    )
    .addHelpText(
      'after',
      examplesText([
        ['baleen audit weights-fp8', 'an FP8 checkpoint: its codes and scales'],
        [
          'baleen audit runs/tiny-1',
          'what the run’s FP8 recipe costs its newest checkpoint’s weights',
        ],
        ['baleen audit runs/tiny-1 --step', 'activations and gradients of the run’s next step'],
        ['baleen audit small --step', 'the same of a preset’s first step'],
        [
          'baleen audit model-00001-of-00163.safetensors',
          'one file, and config.json if it lies beside it',
        ],
        ['baleen audit weights-fp8 --json', 'every tensor’s statistics, for programs'],
      ]),
    );
  addCommonFlags(command);
  command.action(async (target: string, flags: AuditFlags) => {
    setThreads(flags.threads);
    if (flags.step) await auditOperands(target, flags, voice);
    else await auditWeights(target, flags, voice);
  });
}

/** What a path turned out to hold. */
interface Target {
  source: TensorSource;
  options: AuditOptions;
}

function openTarget(path: string): Target {
  if (existsSync(path) && statSync(path).isFile()) {
    const source = openSafetensors(path);
    const folder = dirname(path);
    if (!existsSync(join(folder, 'config.json'))) return { source, options: {} };
    return { source, options: { quantization: quantizationFromHuggingFace(readConfig(folder)) } };
  }
  if (!existsSync(path) && isPreset(path))
    throw usageError(
      'TARGET',
      `${path} is a preset, which has no weights to look at`,
      `\`baleen audit ${path} --step\` looks at its first training step`,
      path,
    );
  const { checkpoint, config } = findRun(path);
  const quantization = quantizationFromHuggingFace(readConfig(checkpoint));
  return {
    source: openWeights(checkpoint),
    options: { quantization, ...(config === null ? {} : { weights: config.fp8.weights }) },
  };
}

async function auditWeights(path: string, flags: AuditFlags, voice: Voice): Promise<void> {
  const { source, options } = openTarget(path);
  const begin = performance.now();
  const audit = await follow(auditCheckpoint(source, options), voice);
  const seconds = (performance.now() - begin) / 1000;
  const { weights, findings, others } = audit;
  if (findings.length > 0) voice.exitCode = 1;
  voice.result({
    kind: 'weights',
    checkpoint: source.name,
    scaleFormat: options.quantization?.scaleFormat ?? null,
    ...audit,
    seconds,
  });
  if (voice.json) return;
  const all = flags.all ?? false;
  const { bold } = voice.out;
  const width = Math.min(voice.io.stdout.columns ?? 100, 120);
  const coded = weights.filter(({ dtype }) => dtype === 'F8_E4M3').length;
  voice.print(
    '',
    bold(`Audit of ${shown(source.name)}`),
    '',
    ...auditLines(weightRows(weights, findings), { all, what: 'weight' }, voice.out),
    '',
    ...findingLines(findings, { all, width }, voice.out),
    '',
    fact(
      'weights',
      `${whole(coded)} in FP8, ${whole(weights.length - coded)} that were quantised to see; ${whole(others)} tensors have no part in FP8`,
      voice.out,
    ),
    ...(coded > 0
      ? [fact('SQNR', 'of codes: what rounding to them costs on average', voice.out)]
      : []),
    fact('took', `${duration(seconds)} for ${bytes(audit.bytes)}`, voice.out),
    '',
  );
}

/** The run whose step is taken: a preset's first, or a run's next. */
function stepOf(target: string): { config: TrainConfig; resume?: string } {
  if (!existsSync(target) && isPreset(target)) return { config: presetOf(target) };
  const { config } = findRun(target);
  if (config === null)
    throw usageError(
      'TARGET',
      `--step: ${target} holds weights alone, and no text that they were trained on`,
      'name a run folder, one of its checkpoints, or a preset',
      target,
    );
  return { config, resume: target };
}

async function auditOperands(target: string, flags: AuditFlags, voice: Voice): Promise<void> {
  const { config, ...options } = stepOf(target);
  const begin = performance.now();
  const progress = await openProgress(voice);
  const show = paced(progress, 'auditing');
  let audit;
  try {
    audit = await auditStep(
      { ...config, threads: flags.threads },
      {
        ...options,
        onProgress: (share, piece) => {
          show(share, ['auditing', piece]);
        },
      },
    );
  } finally {
    progress.stop();
  }
  const seconds = (performance.now() - begin) / 1000;
  const { operands, findings, step, tokens } = audit;
  if (findings.length > 0) voice.exitCode = 1;
  voice.result({ kind: 'step', target, ...audit, seconds });
  if (voice.json) return;
  const all = flags.all ?? false;
  const width = Math.min(voice.io.stdout.columns ?? 100, 120);
  voice.print(
    '',
    voice.out.bold(`Audit of step ${whole(step)} of ${target}`),
    '',
    ...auditLines(operandRows(operands, findings), { all, what: 'operand' }, voice.out),
    '',
    ...findingLines(findings, { all, width }, voice.out),
    '',
    fact(
      'step',
      `${whole(tokens)} tokens, forward and backward in FP8; weights stay as they are`,
      voice.out,
    ),
    fact('took', duration(seconds), voice.out),
    '',
  );
}

/** Runs an audit to its end, with progress. */
async function follow(
  steps: ReturnType<typeof auditCheckpoint>,
  voice: Voice,
): Promise<CheckpointAudit> {
  const progress = await openProgress(voice);
  const show = paced(progress, 'auditing');
  try {
    let paused = performance.now();
    for (;;) {
      const next = steps.next();
      if (next.done) return next.value;
      show(next.value.share, ['auditing', next.value.name]);
      // Statistics block this thread: let signals and timers through.
      if (performance.now() - paused < 100) continue;
      await new Promise(setImmediate);
      paused = performance.now();
    }
  } finally {
    progress.stop();
  }
}
