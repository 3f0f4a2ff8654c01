// What the tests share: the command line run in-process with captured streams, and a run that takes a second.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { type Input, run } from '@baleen/cli';
import { onTestFinished } from 'vitest';

// The tests are about the command line: the same figures on every machine, and nothing to compile.
process.env.BALEEN_KERNELS = 'reference';

/** What a command did. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** A failure as `--json` prints it. */
export interface PrintedFailure {
  error: { code: string; message: string; path: string | null; hint: string | null };
}

/** Runs a command with captured streams, which are no terminals. */
export async function cli(...argv: string[]): Promise<Outcome> {
  return await cliWith({}, ...argv);
}

/** The same with some of the outside replaced. */
export async function cliWith(
  io: {
    env?: Record<string, string>;
    terminal?: boolean;
    signal?: AbortSignal;
    stdin?: Input;
    onStderr?: (text: string) => void;
  },
  ...argv: string[]
): Promise<Outcome> {
  const captured = { stdout: '', stderr: '' };
  const stream = (name: keyof typeof captured) => ({
    isTTY: io.terminal ?? false,
    columns: 100,
    write: (text: string) => {
      captured[name] += text;
      if (name === 'stderr') io.onStderr?.(text);
      return true;
    },
  });
  const { env = {}, stdin, signal = new AbortController().signal } = io;
  const code = await run(argv, {
    stdout: stream('stdout'),
    stderr: stream('stderr'),
    ...(stdin ? { stdin: () => stdin } : {}),
    env,
    interrupts: () => signal,
  });
  return { code, ...captured };
}

/** Runs a command with `--json` and reads its line. */
export async function json(...argv: string[]): Promise<{ code: number; value: unknown }> {
  const [command, ...rest] = argv;
  const { code, stdout } = await cli(command, '--json', ...rest);
  const lines = stdout.split('\n');
  if (lines.length !== 2 || lines[1] !== '') throw new Error(`stdout is not one line: ${stdout}`);
  return { code, value: JSON.parse(lines[0]) };
}

/** Runs a command that must fail, with `--json`. */
export async function failure(
  ...argv: string[]
): Promise<PrintedFailure['error'] & { exit: number }> {
  const { code, value } = await json(...argv);
  const { error } = value as PrintedFailure;
  return { ...error, exit: code };
}

/** A folder that goes when the test ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'baleen-cli-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

/** Text that a small model can learn from. */
function someText(paragraphs = 24): string {
  return Array.from(
    { length: paragraphs },
    (_, i) => `The whale number ${i} swam from sea to sea, and the sea was deep and cold that day.`,
  ).join('\n\n');
}

/** The keys of a run of a second, over a preset. */
function smallConfig(folder: string): Record<string, unknown> {
  const text = join(folder, 'text.txt');
  writeFileSync(text, someText());
  return {
    model: {
      hiddenSize: 16,
      layers: 2,
      denseLayers: 1,
      intermediateSize: 32,
      maxSequence: 32,
      attention: { heads: 2, nopeDim: 8, ropeDim: 4, valueDim: 8, queryRank: null, kvRank: 8 },
      moe: { routedExperts: 4, groups: 2, groupsPerToken: 2, intermediateSize: 16 },
    },
    data: { sources: [text], heldOutEvery: 4 },
    precision: 'fp32',
    steps: 4,
    batch: { sequence: 32, sequences: 2, microBatch: 2, rampFrom: 2 },
    evaluation: { every: 0, tokens: 256 },
  };
}

/** Writes {@link smallConfig} as a file over the preset tiny. */
export function smallFile(folder: string, changes: Record<string, unknown> = {}): string {
  const path = join(folder, 'quick.json');
  writeFileSync(path, JSON.stringify({ preset: 'tiny', ...smallConfig(folder), ...changes }));
  return path;
}
