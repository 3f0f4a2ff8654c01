// The parts that every command leans on: numbers as text, the ladder, the live line, suggestions.
import { existsSync, mkdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { exitCodeOf, failureOf, internalError, stackOf } from '../src/errors';
import {
  balance,
  block,
  bytes,
  clock,
  count,
  duration,
  flops,
  printable,
  quote,
  whole,
  wrap,
} from '../src/format';
import { invocation } from '../src/invocation';
import { Voice } from '../src/io';
import { ladder, place } from '../src/ladder';
import { openProgress, paced } from '../src/progress';
import { checkOut, claimRunFolder, releaseRunFolder } from '../src/run-folder';
import { temporaryFolder } from './helpers';

test('numbers read as people write them', () => {
  expect([count(999), count(556_032), count(1_180_000), count(671e9), count(14.8e12)]).toEqual([
    '999',
    '556 k',
    '1.18 M',
    '671 B',
    '14.8 T',
  ]);
  expect([whole(0), whole(999.5), whole(54_210), whole(1_234_567.4)]).toEqual([
    '0',
    '1,000',
    '54,210',
    '1,234,567',
  ]);
  expect([bytes(17), bytes(2048), bytes(61.25 * 2 ** 20)]).toEqual([
    '17 B',
    '2.00 KiB',
    '61.3 MiB',
  ]);
  expect([
    duration(0.0123),
    duration(0.19),
    duration(4.26),
    duration(72),
    duration(3600),
    duration(9e6),
    duration(1e10),
  ]).toEqual(['12 ms', '190 ms', '4.3 s', '1 min 12 s', '1 h', '104 days', '317 years']);
  expect([flops(25.4e9), flops(3e18), flops(5)]).toEqual(['25.4 GFLOP', '3.00 EFLOP', '5 FLOP']);
  expect([clock(38), clock(72.4), clock(7387), clock(NaN)]).toEqual([
    '0:38',
    '1:12',
    '2:03:07',
    '-:--',
  ]);
  expect([balance(0.048), balance(0.123), balance(1)]).toEqual(['+4.8 %', '+12 %', '+100 %']);
  expect([block(0.5, 4), block(1, 2), block(0.0001, 8), block(0, 8)]).toEqual([
    '██',
    '██',
    '▏',
    '',
  ]);
  expect(wrap('the whale swam\n\nfar away', 9)).toEqual(['the whale', 'swam', '', 'far away']);
});

test('text of a model cannot steer a terminal', () => {
  expect(printable('a\u001b[2Jb\u0007c\nd\u009b')).toBe('a [2Jb c\nd ');
});

test('words are quoted for a shell only where they must be', () => {
  expect([quote('runs/tiny-1'), quote('The whale'), quote('say "$x"'), quote("it's $5")]).toEqual([
    'runs/tiny-1',
    '"The whale"',
    `'say "$x"'`,
    `'it'\\''s $5'`,
  ]);
});

test('the ladder puts the model between the rungs it lies between', () => {
  const rungs = [
    { order: 1, bitsPerByte: 4.4 },
    { order: 3, bitsPerByte: 2.8 },
    { order: 5, bitsPerByte: 2.1 },
  ];
  const voice = new Voice(sink().io, {});
  const lines = ladder(rungs, 2.5, voice.out, 80).map((line) => line.trim().split('  ')[0]);
  expect(lines).toEqual(['order 1', 'order 3', 'this model', 'order 5']);
  expect(place(rungs, 2.5)).toBe('better than order 3 included (2.800)');
  expect(place(rungs, 2)).toBe('better than every n-gram here, order 5 included (2.100)');
  expect(place(rungs, 5)).toContain('above every n-gram');
});

/** Streams that remember. */
function sink(terminal = false, columns = 100) {
  const written = { text: '' };
  const stream = {
    isTTY: terminal,
    columns,
    write: (text: string) => (written.text += text),
  };
  return {
    written,
    io: {
      stdout: stream,
      stderr: stream,
      stdin: null,
      env: {},
      interrupts: () => new AbortController().signal,
    },
  };
}

const moment = (share: number) => ({
  share,
  parts: ['step 1/2', 'loss 1.234', '54,210 tokens/s', 'busiest expert +12 %'],
  left: '0:38',
});

test('without a terminal progress is a plain line every five seconds, and the last', async () => {
  const { io, written } = sink();
  let now = 0;
  const progress = await openProgress(new Voice(io, {}), () => now);
  for (; now < 12000; now += 100) progress.update(moment(now / 20000));
  progress.update(moment(1));
  progress.stop();
  const lines = written.text.trimEnd().split('\n');
  expect(lines).toHaveLength(4);
  expect(lines[1]).toBe(
    '   25 %  step 1/2  loss 1.234  54,210 tokens/s  busiest expert +12 %  0:38 left',
  );
});

test('on a terminal progress is one line that is rewritten and leaves nothing behind', async () => {
  const { io, written } = sink(true);
  const progress = await openProgress(new Voice(io, {}));
  progress.update(moment(0.5));
  progress.note('step 1: 2.345 bits per byte');
  progress.update(moment(0.75));
  progress.stop();
  progress.stop();
  expect(written.text).toContain('loss 1.234');
  expect(written.text).toContain('0:38 left');
  expect(written.text).toContain('  step 1: 2.345 bits per byte\n');
  // The cursor comes back, as often as it was hidden.
  expect(written.text.split('\u001b[?25l')).toHaveLength(3);
  expect(written.text.split('\u001b[?25h')).toHaveLength(3);
});

test('a narrow terminal keeps the step, the loss and the time left', async () => {
  const { io, written } = sink(true, 44);
  const progress = await openProgress(new Voice(io, {}));
  progress.update(moment(0.5));
  progress.stop();
  expect(written.text).toContain('step 1/2');
  expect(written.text).toContain('0:38 left');
  expect(written.text).not.toContain('busiest');
});

test('work of more than two seconds shows its time left, shorter work nothing', async () => {
  const { io, written } = sink();
  let now = 0;
  const progress = await openProgress(new Voice(io, {}), () => now);
  const scored = paced(progress, 'scoring', () => now);
  for (const share of [0.25, 0.5, 0.75, 1]) {
    scored(share);
    now += 100;
  }
  expect(written.text).toBe('');
  for (const share of [0.25, 0.5, 0.75, 1]) {
    scored(share);
    now += 6000;
  }
  expect(written.text.split('\n')[0]).toBe('   50 %  scoring  0:12 left');
  expect(written.text.trimEnd().split('\n')).toHaveLength(3);
});

test('quiet shows no progress', async () => {
  const { io, written } = sink(true);
  const progress = await openProgress(new Voice(io, { quiet: true }));
  progress.update(moment(1));
  progress.note('a line');
  progress.stop();
  expect(written.text).toBe('');
});

test('errors: exit 2 for configuration and usage, a remedy for the system’s, a stack for what nobody foresaw', () => {
  expect(exitCodeOf('ERR_BALEEN_CONFIG_VALUE')).toBe(2);
  expect(exitCodeOf('ERR_BALEEN_USAGE_FLAG')).toBe(2);
  expect(exitCodeOf('ERR_BALEEN_DATA_EMPTY')).toBe(1);
  expect(exitCodeOf('ENOSPC')).toBe(1);
  const full = Object.assign(new Error('write failed'), { code: 'ENOSPC', path: '/x' });
  expect(failureOf(full)).toMatchObject({ code: 'ENOSPC', path: '/x' });
  expect(failureOf(full).hint).toContain('disk is full');
  expect(stackOf(full)).toBe('');
  const bug = new TypeError('undefined is not a function');
  expect(failureOf(bug)).toMatchObject({ code: 'ERR_BALEEN_INTERNAL', path: null });
  expect(failureOf(bug).hint).toContain('report');
  expect(stackOf(bug)).toContain('units.test');
  const fault = internalError('no end');
  expect(failureOf(fault)).toMatchObject({ code: 'ERR_BALEEN_INTERNAL', message: 'no end' });
  expect(failureOf(fault).hint).toContain('report');
  expect(stackOf(fault)).toContain('units.test');
  expect(failureOf('text').message).toBe('text');
});

test('run folders are numbered, claimed and given back when empty', () => {
  const root = join(temporaryFolder(), 'runs');
  expect(claimRunFolder('tiny', root)).toBe(join(root, 'tiny-1'));
  mkdirSync(join(root, 'tiny-7'));
  mkdirSync(join(root, 'tiny-x'));
  const claimed = claimRunFolder('tiny', root);
  expect(claimed).toBe(join(root, 'tiny-8'));
  releaseRunFolder(claimed);
  expect(claimRunFolder('tiny', root)).toBe(claimed);
  writeFileSync(join(claimed, 'config.json'), '{}');
  releaseRunFolder(claimed);
  expect(claimRunFolder('tiny', root)).toBe(join(root, 'tiny-9'));
});

test('--out may name a folder that is absent or empty, and nothing else', () => {
  const folder = temporaryFolder();
  expect(() => {
    checkOut(join(folder, 'new'), 'baleen');
    checkOut(folder, 'baleen');
  }).not.toThrow();
  // A run that was killed before it began, on this machine.
  const namespaceFile = '/proc/self/ns/pid';
  const pidNamespace = existsSync(namespaceFile) ? readlinkSync(namespaceFile) : null;
  writeFileSync(
    join(folder, 'train.lock'),
    JSON.stringify({ pid: 999_999_999, started: null, host: hostname(), pidNamespace }),
  );
  expect(() => {
    checkOut(folder, 'baleen');
  }).not.toThrow();
  writeFileSync(join(folder, 'a'), '');
  expect(() => {
    checkOut(folder, 'baleen');
  }).toThrow('is not empty');
  expect(() => {
    checkOut(join(folder, 'a'), 'baleen');
  }).toThrow('is a file');
});

test('suggestions are typed as they can be here', () => {
  const folder = temporaryFolder();
  const inner = join(folder, 'a', 'b');
  mkdirSync(inner, { recursive: true });
  expect(invocation({}, inner)).toBe('baleen');
  expect(invocation({ npm_command: 'exec' }, inner)).toBe('npx @baleen/cli');
  writeFileSync(join(folder, 'package.json'), '{"name":"baleen"}');
  expect(invocation({ npm_command: 'exec' }, inner)).toBe('npx baleen');
  const project = temporaryFolder();
  mkdirSync(join(project, 'node_modules', '.bin'), { recursive: true });
  writeFileSync(join(project, 'node_modules', '.bin', 'baleen'), '');
  expect(invocation({}, project)).toBe('npx baleen');
});
