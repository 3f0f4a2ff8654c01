// What writes text: `generate`, one or many, and `chat`.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';

import type { Input } from '@baleen/cli';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { cli, cliWith, failure, json, smallFile, temporaryFolder } from './helpers';

const home = process.cwd();
let folder = '';

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'baleen-cli-'));
  process.chdir(folder);
  expect((await cli('train', '--config', smallFile(folder))).code).toBe(0);
});

afterAll(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true, force: true });
});

describe('generate', () => {
  test('streams the prompt and what follows to stdout; the same seed writes the same text', async () => {
    const argv = [
      'generate',
      'runs/quick-1',
      '--prompt',
      'The whale',
      '--tokens',
      '20',
      '--seed',
      '7',
    ];
    const first = await cli(...argv);
    expect(first.code).toBe(0);
    expect(first.stdout.startsWith('The whale')).toBe(true);
    expect(first.stderr).toContain('seed 7');
    expect((await cli(...argv)).stdout).toBe(first.stdout);
    const { value } = await json(...argv);
    const { text, tokens } = value as { text: string; tokens: number };
    expect(`The whale${text}\n`).toBe(first.stdout);
    expect(tokens).toBeLessThanOrEqual(20);
  });

  test('takes its prompt from stdin where none is given, and waits for it only when asked to', async () => {
    const prompt = async (stdin: Input, ...argv: string[]): Promise<[string, string]> => {
      const out = await cliWith({ stdin }, 'generate', 'runs/quick-1', ...argv, '--tokens', '2');
      expect(out.code).toBe(0);
      return [out.stdout, out.stderr];
    };
    const [stdout] = await prompt(Readable.from([Buffer.from('The wh'), Buffer.from('ale\n')]));
    expect(stdout).toMatch(/^The whale[^\n]/);
    const bytes = Buffer.from('Wörter');
    const [cut] = await prompt(Readable.from([bytes.subarray(0, 2), bytes.subarray(2)]));
    expect(cut.startsWith('Wörter')).toBe(true);

    // A pipe that nobody writes to, and one whose writer takes its time.
    const silent = new PassThrough();
    const [none, told] = await prompt(silent);
    expect(none).not.toBe('');
    expect(told).toContain('stdin is open and silent');
    expect(silent.destroyed).toBe(true);
    const slow = new PassThrough();
    setTimeout(() => slow.end('At last'), 700);
    expect((await prompt(slow, '-'))[0].startsWith('At last')).toBe(true);

    // Neither a prompt that is given nor a terminal is waited for.
    const unread = Readable.from([Buffer.from('no')]);
    expect((await prompt(unread, 'Yes'))[0].startsWith('Yes')).toBe(true);
    expect(unread.readableDidRead).toBe(false);
    const terminal = Object.assign(new PassThrough(), { isTTY: true });
    expect((await prompt(terminal))[1]).not.toContain('stdin');
    expect(await failure('generate', 'runs/quick-1', '-')).toMatchObject({
      code: 'ERR_BALEEN_USAGE_PROMPT',
      exit: 2,
    });
  });

  test('writes past the end of the context', async () => {
    const { value } = await json(
      ...['generate', 'runs/quick-1', 'The whale', '--tokens', '80', '--temperature', '0'],
    );
    // The context is 32 tokens; a greedy model of this text never ends its document so early.
    expect((value as { tokens: number }).tokens).toBe(80);
  });

  test('of what is not there says so', async () => {
    const error = await failure('generate', join(temporaryFolder(), 'none'));
    expect(error).toMatchObject({ code: 'ERR_BALEEN_CHECKPOINT_ABSENT', exit: 1 });
  });

  test('many texts at once are those of one at a time with their seeds, in order', async () => {
    const prompts = ['The whale', 'the sea', 'A', 'number 7 swam from sea to sea'];
    const common = ['--tokens', '40', '--seed', '3'];
    const flags = prompts.flatMap((prompt) => ['--prompt', prompt]);
    const { value } = await json(
      'generate',
      'runs/quick-1',
      ...flags,
      ...common,
      '--together',
      '3',
    );
    const { texts, tokens } = value as {
      texts: { prompt: string; text: string; tokens: number; seed: number }[];
      tokens: number;
    };
    expect(texts.map(({ prompt }) => prompt)).toEqual(prompts);
    expect(texts.map(({ seed }) => seed)).toEqual([3, 4, 5, 6]);
    expect(tokens).toBe(texts.reduce((sum, text) => sum + text.tokens, 0));
    for (const { prompt, text, seed } of texts) {
      // 40 tokens are more than the context holds: texts go on past its end, each in its own time.
      const one = await json(
        'generate',
        'runs/quick-1',
        prompt,
        '--tokens',
        '40',
        '--seed',
        `${seed}`,
      );
      expect((one.value as { text: string }).text).toBe(text);
    }
    // The same from a file, for people.
    writeFileSync('prompts.txt', `${prompts.join('\r\n')}\n\n`);
    const shown = await cli('generate', 'runs/quick-1', '--prompts', 'prompts.txt', ...common);
    expect(shown.stdout).toBe(texts.map(({ prompt, text }) => `${prompt}${text}\n`).join('\n'));
    writeFileSync('one.txt', 'A');
    const single = await json('generate', 'runs/quick-1', '--prompts', 'one.txt', '--tokens', '2');
    expect((single.value as { texts: unknown[] }).texts).toHaveLength(1);
  });

  test('caches in fewer bytes write on, and others than there are are refused', async () => {
    const argv = ['generate', 'runs/quick-1', 'The whale', '--tokens', '9', '--temperature', '0'];
    for (const cache of ['fp32', 'bf16', 'fp8']) {
      const { value } = await json(...argv, '--cache', cache);
      expect((value as { tokens: number }).tokens).toBe(9);
    }
    expect(await failure('generate', 'runs/quick-1', 'The', '--cache', 'int8')).toMatchObject({
      code: 'ERR_BALEEN_USAGE_VALUE',
      path: '--cache',
      hint: 'give one of fp32, bf16, fp8',
      exit: 2,
    });
  });

  test('drafts leave the likeliest text as it is, and what became of them is told', async () => {
    const argv = ['generate', 'runs/quick-1', 'The whale', '--temperature', '0', '--tokens', '40'];
    const plain = await json(...argv);
    const drafted = await json(...argv, '--drafts', '2');
    interface Report {
      text: string;
      tokens: number;
      drafts?: { atOnce: number; rate: number; byPosition: number[]; tokensPerPass: number };
    }
    const [without, { drafts, ...made }] = [plain.value, drafted.value] as [Report, Report];
    expect(without.drafts).toBeUndefined();
    expect(made).toMatchObject({ text: without.text, tokens: without.tokens });
    expect(drafts?.atOnce).toBe(2);
    expect(drafts?.byPosition).toHaveLength(2);
    expect(drafts?.rate).toBeLessThanOrEqual(drafts?.byPosition[0] ?? 0);
    expect(drafts?.tokensPerPass).toBeGreaterThanOrEqual(1);
    expect((await cli(...argv, '--drafts', '1')).stderr).toMatch(
      / % of drafts stayed: \d\.\d\d tokens a pass/,
    );
    // A text of one token leaves nothing to draft.
    expect((await cli(...argv, '--tokens', '1', '--drafts', '1')).stderr).toContain(
      'nothing was drafted',
    );
    expect(await failure(...argv, '--drafts', '0.5')).toMatchObject({ path: '--drafts', exit: 2 });
    const trained = await cli(
      'train',
      '--config',
      smallFile(folder),
      '--model.mtp.depth',
      '0',
      '--out',
      'runs/no-depth',
    );
    expect(trained.code).toBe(0);
    const refused = { code: 'ERR_BALEEN_USAGE_DRAFTS', path: '--drafts' };
    expect(await failure('generate', 'runs/no-depth', 'A', '--drafts', '1')).toMatchObject({
      ...refused,
      exit: 2,
    });
    const talk = ['chat', 'runs/no-depth', '--drafts', '1', '--json'];
    const { code, stdout } = await cliWith({ stdin: Readable.from([]) }, ...talk);
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ error: refused });
  });

  test('a file of prompts that is not there or holds none, and - among many, are refused', async () => {
    writeFileSync('empty.txt', '\n \n');
    for (const file of ['empty.txt', 'none.txt'])
      expect(await failure('generate', 'runs/quick-1', '--prompts', file)).toMatchObject({
        code: 'ERR_BALEEN_USAGE_PROMPTS',
        path: '--prompts',
        exit: 2,
      });
    const both = ['--prompt', 'a', '--prompts', 'empty.txt'];
    expect(await failure('generate', 'runs/quick-1', ...both)).toMatchObject({
      code: 'ERR_BALEEN_USAGE_PROMPT',
      hint: 'keep one of them',
    });
    const stdin = ['--prompt', 'a', '--prompt', '-'];
    expect(await failure('generate', 'runs/quick-1', ...stdin)).toMatchObject({
      code: 'ERR_BALEEN_USAGE_PROMPT',
    });
  });
});

describe('chat', () => {
  const lines = ['The whale', 'swam', '', 'from sea to sea and the sea was deep'];
  const say = (text: string): Readable => Readable.from([Buffer.from(text)]);
  const flags = ['--tokens', '12', '--temperature', '0'];

  test('answers each line, going on from all that was said', async () => {
    const input = { stdin: say(`${lines.join('\n')}\n`) };
    const { code, stdout } = await cliWith(input, 'chat', 'runs/quick-1', '--json', ...flags);
    expect(code).toBe(0);
    const { turns, tokens } = JSON.parse(stdout) as {
      turns: { said: string; answer: string; tokens: number }[];
      tokens: number;
    };
    expect(turns.map(({ said }) => said)).toEqual(lines);
    expect(tokens).toBe(48);
    // The second answer is what the whole text so far is continued with; later ones have lost its beginning.
    const text = `${lines[0]}${turns[0].answer}\n${lines[1]}`;
    const { value } = await json('generate', 'runs/quick-1', text, ...flags);
    expect((value as { text: string }).text).toContain(turns[1].answer);
    for (const { answer } of turns) expect(answer).not.toBe('');
    // For people: an answer a line, whatever the pieces that stdin comes in.
    const pieces = ['The wh', 'ale\r\nswam\n\nfrom sea to sea and', ' the sea was deep'];
    const parts = Readable.from(pieces.map((piece) => Buffer.from(piece)));
    const shown = await cliWith({ stdin: parts }, 'chat', 'runs/quick-1', ...flags);
    expect(shown.stdout).toBe(turns.map(({ answer }) => `${answer}\n`).join(''));
    expect(shown.stderr).toContain('4 turns, 48 tokens');
  });

  test('drafts leave the likeliest answers as they are, and what became of them is told', async () => {
    interface Report {
      turns: { answer: string }[];
      tokens: number;
      drafts?: { atOnce: number; rate: number; tokensPerPass: number };
    }
    const talk = async (...drafts: string[]): Promise<Report> => {
      const argv = ['chat', 'runs/quick-1', '--json', ...flags, ...drafts];
      const { stdout } = await cliWith({ stdin: say(`${lines.join('\n')}\n`) }, ...argv);
      return JSON.parse(stdout) as Report;
    };
    const [plain, drafted] = [await talk(), await talk('--drafts', '2')];
    expect(plain.drafts).toBeUndefined();
    expect(drafted.turns).toEqual(plain.turns);
    expect(drafted.drafts?.atOnce).toBe(2);
    expect(drafted.drafts?.tokensPerPass).toBeGreaterThanOrEqual(1);
    const argv = ['chat', 'runs/quick-1', ...flags, '--drafts', '1'];
    const { stderr } = await cliWith({ stdin: say('The whale\n') }, ...argv);
    expect(stderr).toMatch(/1 turns, .* % of drafts stayed: \d\.\d\d tokens a pass/);
  });

  test('ends when it is told to, waiting for a line or in an answer', async () => {
    const controller = new AbortController();
    const stdin = new PassThrough();
    stdin.write('The whale\n');
    const terminal = Object.assign(stdin, { isTTY: true });
    let asked = 0;
    const { code, stderr } = await cliWith(
      {
        stdin: terminal,
        signal: controller.signal,
        onStderr: (text) => {
          if (text.includes('> ') && (asked += 1) === 2) controller.abort();
        },
      },
      ...['chat', 'runs/quick-1', ...flags],
    );
    expect(code).toBe(0);
    expect(stdin.destroyed).toBe(true);
    expect(stderr).toContain('1 turns, 12 tokens');
    const early = new AbortController();
    early.abort();
    const { stdout } = await cliWith(
      { stdin: say('The whale\n'), signal: early.signal },
      ...['chat', 'runs/quick-1', '--json', ...flags],
    );
    expect((JSON.parse(stdout) as { turns: unknown[] }).turns).toEqual([]);
  });

  test('without stdin says so', async () => {
    expect(await failure('chat', 'runs/quick-1')).toMatchObject({
      code: 'ERR_BALEEN_USAGE_STDIN',
      exit: 2,
    });
  });
});
