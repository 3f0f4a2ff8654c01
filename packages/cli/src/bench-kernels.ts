// `baleen bench kernels`: single kernels against the peaks of this machine.
import { describeKernels } from '@baleen/kernels';
import { benchKernels, type KernelResult } from '@baleen/trainer';
import type { Command } from 'commander';

import { usageError } from './errors';
import { block, table } from './format';
import type { Voice } from './io';
import { kernelLines } from './kernel-report';
import { openProgress, paced } from './progress';
import { fact } from './report';
import { addCommonFlags, examplesText, shaped } from './shape';

interface KernelOptions {
  /** Part of the names wanted. */
  only?: string;
  /** Threads of the runs on several. */
  threads?: number;
}

/** Adds the subcommand. */
export function defineKernels(command: Command, voice: Voice): void {
  const kernels = shaped(command.command('kernels'), voice)
    .summary('time single kernels against the peaks')
    .description(
      'Time the native kernels at the shapes of training, on one thread and on all, as shares of what\n' +
        'the processor reaches with nothing but registers and streams in the same process.',
    )
    .option('--only <text>', 'only kernels whose name contains this')
    .option('--threads <n>', 'threads of the runs on several (0: every core)', threadCount);
  kernels.addHelpText(
    'after',
    examplesText([
      ['baleen bench kernels', 'every kernel'],
      ['baleen bench kernels --only gemm', 'the matrix products'],
      ['baleen bench kernels --json', 'for programs'],
    ]),
  );
  addCommonFlags(kernels);
  kernels.action(async (options: KernelOptions) => {
    await measure(options, voice);
  });
}

function threadCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 0 || count > 64)
    throw usageError(
      'THREADS',
      `--threads (${text}) is not a whole number from 0 to 64`,
      'leave it out for every core',
      '--threads',
    );
  return count;
}

async function measure(options: KernelOptions, voice: Voice): Promise<void> {
  voice.say('Timing kernels at the shapes of training …');
  const progress = await openProgress(voice);
  let result;
  try {
    result = await benchKernels({ ...options, onProgress: paced(progress, 'timing') });
  } finally {
    progress.stop();
  }
  voice.result(result);
  if (voice.json) return;
  const { bold, cyan } = voice.out;
  voice.print('', bold('Kernels against the peaks'), '');
  for (const { threads, fp32, bf16Dot, copy, read } of result.peaks)
    voice.print(
      fact(
        threads === 1 ? '1 thread' : `${threads} threads`,
        `FP32 ${rate(fp32)} GFLOP/s · BF16 dot ${rate(bf16Dot)} GFLOP/s · copy ${rate(copy)} GB/s · read ${rate(read)} GB/s`,
        voice.out,
      ),
    );
  kernelLines(describeKernels()).forEach((text, index) => {
    voice.print(fact(index === 0 ? 'kernels' : '', text, voice.out));
  });
  const lines = table(
    result.cases.map((one) => [
      one.kernel,
      one.shape.join('×'),
      one.threads === 1 ? '1 thread' : `${one.threads} threads`,
      measured(one),
      `${(100 * one.ofPeak).toFixed(0)} % of ${peakNames[one.of]}${pointOf(one)}`,
    ]),
    [3],
  );
  const width = Math.max(...lines.map((line) => line.length));
  voice.print(
    '',
    ...lines.map(
      (line, index) => `  ${line.padEnd(width)}  ${cyan(block(result.cases[index].ofPeak, 20))}`,
    ),
    '',
  );
}

const peakNames = { fp32: 'FP32', bf16Dot: 'BF16 dot', copy: 'copy', read: 'reading' } as const;

/** Where arithmetic and reading compete. */
function pointOf({ roofline }: KernelResult): string {
  if (!roofline) return '';
  return `, ${rate(roofline.intensity)} FLOP a byte of ${rate(roofline.ridge)}`;
}

function measured({ gflops, gbps }: KernelResult): string {
  return gflops === undefined ? `${rate(gbps ?? 0)} GB/s` : `${rate(gflops)} GFLOP/s`;
}

function rate(value: number): string {
  return value < 100 ? value.toFixed(1) : value.toFixed(0);
}
