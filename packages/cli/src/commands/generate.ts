// `baleen generate <run or checkpoint> [prompt]`: text as it is made, to stdout; of many prompts, one text after another.
import { readFileSync } from 'node:fs';

import { setThreads } from '@baleen/kernels';
import { type OpenedRun, openRun } from '@baleen/trainer';
import type { Command } from 'commander';

import { usageError } from '../errors';
import { duration, printable, whole } from '../format';
import type { Voice } from '../io';
import { numberFlag } from '../numbers';
import { shown } from '../run-folder';
import {
  addSamplingFlags,
  draftsInWords,
  draftsReport,
  type SamplingFlags,
  writeOptions,
} from '../sampling-flags';
import { addCommonFlags, examplesText } from '../shape';
import { readText } from '../stdin';
import { type WriteOptions, writeMany } from '../writing';

interface GenerateFlags extends SamplingFlags {
  prompt?: string[];
  prompts?: string;
  together: number;
}

/** Adds arguments, flags, help and the action. */
export function define(command: Command, voice: Voice): void {
  command
    .description(
      'Let a run or checkpoint continue a text, or many at once. Without a prompt it continues what stdin holds,\n' +
        'if that is a file or a pipe with text in it, else it begins a document. The prompt - waits for stdin to\n' +
        'end. Many texts share passes of the model, and each is what it would be alone with its seed: the first\n' +
        'has --seed, each next one the number after.',
    )
    .argument('<run>', 'a run folder, one of its checkpoints, or a Hugging Face folder')
    .argument('[prompt]', 'text to continue, or - for stdin')
    .option(
      '--prompt <text>',
      'text to continue, or - for stdin; repeat it for many texts',
      (text: string, before: string[] | undefined) => [...(before ?? []), text],
    )
    .option('--prompts <file>', 'a file of texts to continue, one a line')
    .option(
      '--together <n>',
      'most texts that run at once',
      numberFlag('--together', { least: 1, whole: true }),
      8,
    );
  addSamplingFlags(command, 300, 'a text');
  command.addHelpText(
    'after',
    examplesText([
      ['baleen generate runs/tiny-1 --prompt "The whale"', 'continue a text'],
      ['baleen generate runs/tiny-1 --temperature 0 --tokens 100', 'the likeliest text'],
      ['baleen generate runs/tiny-1 --temperature 0 --drafts 1', 'the same, sooner'],
      ['baleen generate runs/tiny-1 < opening.txt', 'continue a file'],
      ['baleen generate runs/tiny-1 --prompt "The whale" --prompt "The sea"', 'two texts at once'],
      ['baleen generate runs/tiny-1 --prompts questions.txt --json', 'many, for programs'],
      ['baleen generate runs/tiny-1 "Call me" --seed 7 > out.txt', 'the same text every time'],
    ]),
  );
  addCommonFlags(command);
  command.action(async (run: string, prompt: string | undefined, flags: GenerateFlags) => {
    const given = givenPrompts(prompt, flags);
    setThreads(flags.threads);
    const opened = await openRun(run);
    const { together } = flags;
    const options: WriteOptions = {
      ...writeOptions(flags, Math.floor(Math.random() * 2 ** 31), opened.model),
      together,
    };
    voice.say(
      voice.err.dim(`${shown(opened.folder)}, step ${whole(opened.step)}, seed ${options.seed}`),
      '',
    );
    // Only now: whoever fills a pipe had the time that the model took.
    const prompts = given ?? [await promptOf(prompt ?? flags.prompt?.[0], voice)];
    const texts = await writeTexts(opened, prompts, options, voice);
    voice.result(report(opened, texts, options, given !== null));
  });
}

/** Prompts of which there may be many; null for at most one, which may be stdin's. */
function givenPrompts(argument: string | undefined, flags: GenerateFlags): string[] | null {
  const { prompt: named = [], prompts: file } = flags;
  const sources = [
    ...(argument === undefined ? [] : [argument]),
    ...(named.length === 0 ? [] : [`--prompt ${named[0]}`]),
    ...(file === undefined ? [] : [`--prompts ${file}`]),
  ];
  if (sources.length > 1)
    throw usageError(
      'PROMPT',
      `the prompt is given twice: ${sources.slice(0, 2).join(' and ')}`,
      'keep one of them',
      '--prompt',
    );
  if (file !== undefined) return readPrompts(file);
  if (named.length < 2) return null;
  if (named.includes('-'))
    throw usageError(
      'PROMPT',
      'one of many prompts is -, which stands for stdin',
      'give the prompt - alone, or the texts in a file with --prompts',
      '--prompt',
    );
  return named;
}

function readPrompts(file: string): string[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as { code?: string };
    throw usageError(
      'PROMPTS',
      code === 'ENOENT'
        ? `--prompts ${file} does not exist`
        : `--prompts ${file} cannot be read (${code ?? String(error)})`,
      'name a file with a text to continue on each line',
      '--prompts',
    );
  }
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  if (lines.length === 0)
    throw usageError(
      'PROMPTS',
      `--prompts ${file} holds no text`,
      'write a text to continue on each line',
      '--prompts',
    );
  return lines;
}

/** The prompt that was given, else what stdin holds. */
async function promptOf(given: string | undefined, voice: Voice): Promise<string> {
  const wait = given === '-';
  if (given !== undefined && !wait) return given;
  const input = voice.io.stdin?.();
  if (wait && !input)
    throw usageError('PROMPT', 'the prompt - is stdin, and there is none', 'give the text itself');
  if (!input || (input.isTTY && !wait)) return '';
  const text = await readText(input, wait);
  if (text === null)
    voice.say(voice.err.dim('no prompt: stdin is open and silent (the prompt - waits for it)'));
  return text ?? '';
}

/** A text, made. */
interface Written {
  prompt: string;
  text: string;
  tokens: number;
  ended: boolean;
}

/** Writes texts at once, and shows them one after another: the first as it is made, the next as far as they are. */
async function writeTexts(
  { model, tokenizer }: OpenedRun,
  prompts: readonly string[],
  options: WriteOptions,
  voice: Voice,
): Promise<{ texts: Written[]; seconds: number }> {
  const { stdout } = voice.io;
  const terminal = stdout.isTTY === true;
  // A model of bytes can make control characters: a file gets them, a terminal must not.
  const show = (text: string): void => {
    if (!voice.json) stdout.write(terminal ? printable(text) : text);
  };
  const texts = prompts.map((prompt) => ({ prompt, text: '', tokens: 0, ended: false }));
  const open = (prompt: string): void => {
    if (!voice.json && prompt !== '') stdout.write(terminal ? voice.out.bold(prompt) : prompt);
  };
  let shownText = 0;
  const began = performance.now();
  open(prompts[0]);
  for await (const { text: at, piece, tokens, ended } of writeMany(
    model,
    tokenizer,
    prompts,
    options,
  )) {
    const text = texts[at];
    text.text += piece;
    Object.assign(text, { tokens, ended });
    if (at !== shownText) continue;
    show(piece);
    while (texts[shownText]?.ended) {
      show('\n');
      shownText += 1;
      if (shownText === texts.length) break;
      show('\n');
      open(prompts[shownText]);
      show(texts[shownText].text);
    }
  }
  const seconds = (performance.now() - began) / 1000;
  const made = texts.reduce((sum, { tokens }) => sum + tokens, 0);
  const rate = `${made} tokens in ${duration(seconds)} (${whole(made / seconds)} a second)`;
  voice.say('', voice.err.dim(`${rate}${draftsInWords(options.counts)}`));
  return { texts, seconds };
}

/** The line of `--json`: a prompt that may have been stdin's beside its text, many as a list. */
function report(
  { folder, step }: OpenedRun,
  { texts, seconds }: { texts: readonly Written[]; seconds: number },
  options: WriteOptions,
  many: boolean,
): object {
  const tokens = texts.reduce((sum, text) => sum + text.tokens, 0);
  const { seed, temperature, topP } = options;
  const shared = {
    temperature,
    topP,
    ...draftsReport(options),
    tokensPerSecond: tokens / seconds,
    seconds,
  };
  if (!many) {
    const { prompt, text } = texts[0];
    return { run: folder, step, prompt, text, tokens, seed, ...shared };
  }
  const list = texts.map(({ prompt, text, tokens: own }, index) => ({
    prompt,
    text,
    tokens: own,
    seed: seed + index,
  }));
  return { run: folder, step, texts: list, tokens, seed, ...shared };
}
