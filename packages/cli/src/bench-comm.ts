// `baleen bench comm`: communicators on this machine, beside a copy.
import { type BenchTransport, benchComm, type CommCase } from '@baleen/comm/bench';
import type { Command } from 'commander';

import { usageError } from './errors';
import { block, table } from './format';
import type { Voice } from './io';
import { openProgress, paced } from './progress';
import { addCommonFlags, examplesText, shaped } from './shape';

interface CommOptions {
  /** Ranks. */
  ranks?: number;
  /** The only transport. */
  transport?: BenchTransport;
}

/** Adds the subcommand. */
export function defineComm(command: Command, voice: Voice): void {
  const comm = shaped(command.command('comm'), voice)
    .summary('time what ranks exchange, on threads and under MPI')
    .description(
      'Time every operation of a communicator, on ranks that are threads and, where mpirun is installed, on\n' +
        'processes under MPI, as shares of what a copy by all ranks at once takes for the same bytes.',
    )
    .option('--ranks <n>', 'how many (2 without it)', rankCount)
    .option('--transport <name>', 'only threads, or only mpi', transportName);
  comm.addHelpText(
    'after',
    examplesText([
      ['baleen bench comm', 'two ranks, both transports'],
      ['baleen bench comm --ranks 4 --transport threads', 'four ranks as threads'],
      ['baleen bench comm --json', 'for programs'],
    ]),
  );
  addCommonFlags(comm);
  comm.action(async (options: CommOptions) => {
    await measure(options, voice);
  });
}

function rankCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > 256)
    throw usageError(
      'RANKS',
      `--ranks (${text}) is not a whole number from 1 to 256`,
      'leave it out for two',
      '--ranks',
    );
  return count;
}

function transportName(text: string): BenchTransport {
  if (text === 'threads' || text === 'mpi') return text;
  throw usageError(
    'TRANSPORT',
    `--transport (${text}) is neither threads nor mpi`,
    'leave it out for both',
    '--transport',
  );
}

async function measure({ ranks, transport }: CommOptions, voice: Voice): Promise<void> {
  voice.say('Timing what ranks exchange …');
  const progress = await openProgress(voice);
  let result;
  try {
    result = await benchComm({
      onProgress: paced(progress, 'timing'),
      ...(ranks === undefined ? {} : { ranks }),
      ...(transport === undefined ? {} : { transports: [transport] }),
    });
  } finally {
    progress.stop();
  }
  voice.result(result);
  if (voice.json) return;
  const { bold, cyan } = voice.out;
  voice.print('', bold(`Communicators of ${result.ranks} ranks`), '');
  const lines = table(
    result.cases.map((one) => [
      one.transport,
      one.operation,
      one.bytes === 0 ? '' : bytesOf(one.bytes),
      micros(one.us),
      `best ${micros(one.bestUs)}`,
      one.gbps === null ? '' : `${one.gbps.toFixed(2)} GB/s`,
      one.ofCopy === null ? '' : `${(100 * one.ofCopy).toFixed(0)} % of a copy`,
    ]),
    [2, 3, 4, 5],
  );
  const width = Math.max(...lines.map((line) => line.length));
  voice.print(
    ...lines.map((line, index) => bar(line, width, result.cases[index], cyan)),
    ...Object.entries(result.missing).map(([name, why]) => `  ${name}: ${why}`),
    '',
  );
}

function bar(
  line: string,
  width: number,
  { ofCopy }: CommCase,
  color: (text: string) => string,
): string {
  return `  ${line.padEnd(width)}  ${ofCopy === null ? '' : color(block(Math.min(1, ofCopy), 20))}`.trimEnd();
}

function micros(us: number): string {
  return `${us.toFixed(us < 100 ? 1 : 0)} µs`;
}

function bytesOf(bytes: number): string {
  if (bytes >= 2 ** 20) return `${bytes / 2 ** 20} MiB`;
  return bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} B`;
}
