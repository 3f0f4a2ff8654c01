// A run from the command line: what it writes, what it says where, how it goes on, and what stops it.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { cli, cliWith, failure, json, type Outcome, smallFile } from './helpers';

const home = process.cwd();
let folder = '';
let config = '';
let trained: Outcome;

// One run for all who only look; its folder is chosen by the command itself.
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baleen-cli-'));
  process.chdir(folder);
  config = smallFile(folder);
  trained = await cli('train', '--config', config);
});

afterAll(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true, force: true });
});

describe('train', () => {
  test('says on stderr what it does, and reports on stdout', () => {
    expect(trained.code).toBe(0);
    expect(trained.stderr).toContain('4 steps of 64 tokens in fp32');
    expect(trained.stderr).toContain('runs/quick-1');
    expect(trained.stderr).toMatch(/100 % {2}step 4\/4 {2}loss \d\.\d{3} .* left/);
    const { stdout } = trained;
    for (const part of [
      'bits per byte',
      'this model',
      'order 1',
      'order 5',
      'experts',
      'tokens/s',
      'Sample',
    ])
      expect(stdout).toContain(part);
    // Nothing is silent about a slow path.
    expect(stdout).toMatch(/kernels +reference/);
    expect(stdout).toContain('BALEEN_KERNELS');
  });

  test('ends with three commands that can be typed, and the first two work', async () => {
    const commands = [...trained.stdout.matchAll(/ baleen (.*)$/gm)].map(([, line]) => line);
    expect(commands).toHaveLength(3);
    const words = (line: string): string[] =>
      [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([word, quoted]) =>
        word.startsWith('"') ? quoted : word,
      );
    const [generate, evaluate, again] = commands.map(words);
    expect(generate.slice(0, 2)).toEqual(['generate', 'runs/quick-1']);
    expect((await cli(...generate, '--tokens', '3')).code).toBe(0);
    expect(evaluate).toEqual(['eval', 'runs/quick-1']);
    expect((await cli(...evaluate)).code).toBe(0);
    expect(again.slice(0, 3)).toEqual(['train', '--config', 'runs/quick-1/config.json']);
    expect((await json(...again, '--dry-run')).value).toMatchObject({
      steps: 4,
      precision: 'bf16',
    });
  });

  test('leaves a run folder with the resolved configuration and its origins', () => {
    expect(readdirSync('runs/quick-1').sort()).toEqual([
      'checkpoints',
      'config.json',
      'metrics.jsonl',
    ]);
    const written = JSON.parse(readFileSync('runs/quick-1/config.json', 'utf8')) as {
      preset: string;
      config: { steps: number };
      origins: Record<string, string>;
    };
    expect(written).toMatchObject({ preset: 'tiny', config: { steps: 4 } });
    expect(written.origins.steps).toBe(`file ${config}`);
    expect(written.origins['optimizer.beta2']).toBe('preset tiny');
  });

  test('--json is one line with every field of the contract; --quiet leaves stderr empty', async () => {
    const { code, stdout, stderr } = await cli(
      ...['train', '--config', config, '--steps', '2', '--seed', '3', '--json', '--quiet'],
    );
    expect(code).toBe(0);
    expect(stderr).toBe('');
    expect(stdout.trimEnd().split('\n')).toHaveLength(1);
    const result = JSON.parse(stdout) as Record<string, unknown>;
    expect(Object.keys(result).sort()).toEqual(
      [
        ...['run', 'preset', 'precision', 'params', 'activeParams', 'steps', 'tokens', 'epochs'],
        ...['trainLoss', 'valLoss', 'valBitsPerByte', 'baselines', 'tokensPerSecond', 'layout'],
        ...['restarts', 'computed'],
        ...[
          'medianStepSeconds',
          'peakRegionBytes',
          'peakRssBytes',
          'maxViolation',
          'kernels',
          'seconds',
        ],
      ].sort(),
    );
    expect(result).toMatchObject({
      preset: 'tiny',
      precision: 'fp32',
      steps: 2,
      tokens: 128,
      layout: { ranks: 1, pp: 1, ep: 1, dp: 1 },
      kernels: { implementation: 'reference' },
    });
    expect(result.run).toMatch(/runs\/quick-\d+$/);
  });

  test('never writes over a run: folders are numbered, and a full --out is refused', async () => {
    const before = readdirSync('runs').length;
    await cli('train', '--config', config, '--steps', '1', '--quiet');
    expect(readdirSync('runs')).toHaveLength(before + 1);
    const error = await failure('train', '--config', config, '--out', 'runs/quick-1');
    expect(error).toMatchObject({
      code: 'ERR_BALEEN_USAGE_OUT',
      message: '--out runs/quick-1 already holds a run',
      path: 'runs/quick-1',
      exit: 2,
    });
    expect(error.hint).toContain('train --resume runs/quick-1');
    const other = join(folder, 'other');
    mkdirSync(other);
    writeFileSync(join(other, 'letter.txt'), 'dear');
    expect((await failure('train', '--config', config, '--out', other)).message).toContain(
      'not empty',
    );
  });

  test.skipIf(!existsSync('/proc/self/stat'))(
    '--out where no folder can be is refused',
    async () => {
      expect(await failure('train', '--config', config, '--out', '/proc/x')).toMatchObject({
        code: 'ERR_BALEEN_USAGE_FOLDER',
        path: '/proc/x',
        exit: 2,
      });
    },
  );

  test('--dry-run tells memory by pool and writes nothing', async () => {
    const before = readdirSync('runs');
    const { value } = await json('train', '--config', config, '--dry-run');
    const { bytes } = value as { bytes: Record<string, number> };
    const { total, ...parts } = bytes;
    expect(Object.values(parts).reduce((sum, part) => sum + part, 0)).toBe(total);
    expect(parts.region).toBeGreaterThan(0);
    const { stdout } = await cli('train', '--config', config, '--dry-run');
    for (const pool of Object.keys(parts)) expect(stdout).toContain(pool);
    expect(readdirSync('runs')).toEqual(before);
  });

  test('the dry run predicts the peak that the run measures', async () => {
    const dry = (await json('train', '--config', config, '--dry-run')).value as {
      bytes: { region: number };
    };
    const run = (await json('train', '--config', config, '--steps', '2')).value as {
      peakRegionBytes: number;
    };
    expect(run.peakRegionBytes).toBe(dry.bytes.region);
  });
});

describe('data that cannot be used', () => {
  const write = (name: string, content: string | Uint8Array): string => {
    const path = join(folder, name);
    writeFileSync(path, content);
    return path;
  };
  test.each([
    ['missing', () => join(folder, 'none.txt'), 'ABSENT'],
    ['empty', () => write('empty.txt', ''), 'EMPTY'],
    ['binary', () => write('binary.bin', Uint8Array.of(72, 0, 255, 1)), 'BINARY'],
    ['short', () => write('short.txt', 'Call me.'), 'SHORT'],
  ])('%s: a clear error, exit 1, and no run folder left behind', async (_, make, what) => {
    const before = readdirSync('runs');
    const error = await failure('train', '--config', config, '--data', make());
    expect(error.code).toBe(`ERR_BALEEN_DATA_${what}`);
    expect(error.exit).toBe(1);
    expect(error.hint).not.toBeNull();
    expect(readdirSync('runs')).toEqual(before);
  });
});

describe('resume', () => {
  test('a stopped run goes on in its folder to the same losses as one that was not stopped', async () => {
    const whole = join(folder, 'whole');
    const parts = join(folder, 'parts');
    const losses = (run: string): number[] =>
      readFileSync(join(run, 'metrics.jsonl'), 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as { type: string; loss: number })
        .filter(({ type }) => type === 'step')
        .map(({ loss }) => loss);
    await cli('train', '--config', config, '--steps', '6', '--out', whole, '--quiet');

    // Ctrl-C at the first line of progress: that is after the first step.
    const controller = new AbortController();
    const stopped = await cliWith(
      {
        signal: controller.signal,
        onStderr: (text) => {
          if (text.includes('step 1/6')) controller.abort();
        },
      },
      ...['train', '--config', config, '--steps', '6', '--out', parts],
    );
    expect(stopped.code).toBe(0);
    expect(stopped.stderr).toContain('Stopping after this step');
    expect(stopped.stdout).toContain('baleen train --resume parts');
    expect(losses(parts).length).toBeLessThan(6);

    const resumed = await cli('train', '--resume', parts);
    expect(resumed.code).toBe(0);
    expect(resumed.stderr).toContain('Resuming');
    expect(losses(parts)).toEqual(losses(whole));
  });

  test('of a run with all of its steps does nothing, and says how to go on', async () => {
    const done = join(folder, 'done');
    const first = await json('train', '--config', config, '--out', done);
    const before = readFileSync(join(done, 'metrics.jsonl'), 'utf8');
    const again = await cli('train', '--resume', done);
    expect(again.code).toBe(0);
    expect(again.stderr).toBe('');
    expect(again.stdout).toContain('done is complete: all of its 4 steps are done');
    expect(again.stdout).toContain('baleen train --resume done --steps 8');
    expect(await json('train', '--resume', done)).toEqual({ code: 0, value: first.value });
    expect(readFileSync(join(done, 'metrics.jsonl'), 'utf8')).toBe(before);
    expect(await failure('train', '--resume', done, '--out', join(folder, 'branch'))).toMatchObject(
      {
        code: 'ERR_BALEEN_USAGE_RESUME',
        hint: 'say how many it shall have with --steps, such as --steps 8',
        exit: 2,
      },
    );
    expect(existsSync(join(folder, 'branch'))).toBe(false);
    const more = await json('train', '--resume', done, '--steps', '5');
    expect(more).toMatchObject({ code: 0, value: { steps: 5 } });
  });

  test('of a run that was stopped before its last measurement measures, and tells no speed', async () => {
    const late = join(folder, 'late');
    const controller = new AbortController();
    const stopped = await cliWith(
      {
        signal: controller.signal,
        onStderr: (text) => {
          if (text.includes('step 4/4')) controller.abort();
        },
      },
      ...['train', '--config', config, '--out', late],
    );
    expect(stopped.stdout).toContain('Stopped after step 4 of 4');
    const { code, stdout } = await cli('train', '--resume', late);
    expect(code).toBe(0);
    expect(stdout).toContain('the measurement after step 4 in');
    expect(stdout).toContain('bits per byte');
    expect(stdout).not.toContain('tokens/s');
    expect((await cli('train', '--resume', late)).stdout).toContain('late is complete');
  });

  test('of what is no run says so', async () => {
    expect(await failure('train', '--resume', join(folder, 'nothing'))).toMatchObject({
      code: 'ERR_BALEEN_CHECKPOINT_ABSENT',
    });
    expect(await failure('train', '--resume', 'runs/quick-1', '--preset', 'tiny')).toMatchObject({
      code: 'ERR_BALEEN_USAGE_FLAG',
      exit: 2,
    });
  });
});

describe('eval', () => {
  test('measures the held-out split again, to the run’s own figure', async () => {
    const metrics = readFileSync('runs/quick-1/metrics.jsonl', 'utf8').trimEnd().split('\n');
    const end = JSON.parse(metrics.at(-1) ?? '') as { result: { valBitsPerByte: number } };
    const { value } = await json('eval', 'runs/quick-1');
    const measured = value as { bitsPerByte: number; step: number; mtp: { loss: number }[] };
    expect(measured.bitsPerByte).toBe(end.result.valBitsPerByte);
    expect(measured.step).toBe(4);
    const { stdout } = await cli('eval', 'runs/quick-1');
    expect(stdout).toContain('this model');
    expect(measured.mtp).toHaveLength(1);
    expect(stdout).toMatch(
      new RegExp(
        `depth 1 +${measured.mtp[0].loss.toFixed(4)} nats a token, .* % of them the likeliest, .* % the main`,
      ),
    );
  });

  test('--data measures other text, all of it', async () => {
    const path = join(folder, 'other.txt');
    writeFileSync(path, 'The sea was calm. '.repeat(20));
    const { value } = await json('eval', 'runs/quick-1', '--data', path);
    expect(value).toMatchObject({ bytes: 360 });
  });
});
