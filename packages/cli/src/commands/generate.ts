// `baleen generate <run or checkpoint> [prompt]`: text as it is made, to stdout.

import { setThreads } from '@baleen/kernels';
import { openRun } from '@baleen/trainer';
import type { Command } from 'commander';

import { usageError } from '../errors';
import { duration, printable, whole } from '../format';
import type { Voice } from '../io';
import { numberFlag } from '../numbers';
import { shown } from '../run-folder';
import { write } from '../sample';
import { addCommonFlags, examplesText } from '../shape';
import { readText } from '../stdin';

interface GenerateFlags {
  prompt?: string;
  tokens: number;
  temperature: number;
  topP: number;
  seed?: number;
  threads: number;
}

/** Adds arguments, flags, help and the action. */
export function define(command: Command, voice: Voice): void {
  command
    .description(
      'Let a run or checkpoint continue a text. Without a prompt it continues what stdin holds, if that is a\n' +
        'file or a pipe with text in it, else it begins a document. The prompt - waits for stdin to end.',
    )
    .argument('<run>', 'a run folder, one of its checkpoints, or a Hugging Face folder')
    .argument('[prompt]', 'text to continue, or - for stdin')
    .option('--prompt <text>', 'text to continue, or - for stdin')
    .option(
      '--tokens <n>',
      'most tokens to make',
      numberFlag('--tokens', { least: 1, whole: true }),
      300,
    )
    .option(
      '--temperature <t>',
      '0 takes the likeliest token; higher is more varied',
      numberFlag('--temperature', { least: 0 }),
      0.8,
    )
    .option(
      '--top-p <p>',
      'keep the likeliest tokens that together reach this probability',
      numberFlag('--top-p', { least: 0, most: 1 }),
      0.95,
    )
    .option(
      '--seed <n>',
      'the same seed gives the same text (default: a new one)',
      numberFlag('--seed', { whole: true }),
    )
    .option(
      '--threads <n>',
      'threads of the kernels; 0 for every core',
      numberFlag('--threads', { least: 0, whole: true }),
      0,
    )
    .addHelpText(
      'after',
      examplesText([
        ['baleen generate runs/tiny-1 --prompt "The whale"', 'continue a text'],
        ['baleen generate runs/tiny-1 --temperature 0 --tokens 100', 'the likeliest text'],
        ['baleen generate runs/tiny-1 < opening.txt', 'continue a file'],
        ['baleen generate runs/tiny-1 "Call me" --seed 7 > out.txt', 'the same text every time'],
      ]),
    );
  addCommonFlags(command);
  command.action(async (run: string, prompt: string | undefined, flags: GenerateFlags) => {
    if (prompt !== undefined && flags.prompt !== undefined)
      throw usageError(
        'PROMPT',
        `the prompt is given twice: ${prompt} and --prompt ${flags.prompt}`,
        'keep one of them',
        '--prompt',
      );
    await generateText(run, prompt ?? flags.prompt, flags, voice);
  });
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

async function generateText(
  path: string,
  given: string | undefined,
  flags: GenerateFlags,
  voice: Voice,
): Promise<void> {
  setThreads(flags.threads);
  const opened = await openRun(path);
  // Only now: whoever fills a pipe had the time that the model took.
  const prompt = await promptOf(given, voice);
  const seed = flags.seed ?? Math.floor(Math.random() * 2 ** 31);
  const { dim } = voice.err;
  voice.say(dim(`${shown(opened.folder)}, step ${whole(opened.step)}, seed ${seed}`), '');
  const { stdout } = voice.io;
  const terminal = stdout.isTTY === true;
  if (!voice.json && prompt !== '') stdout.write(terminal ? voice.out.bold(prompt) : prompt);
  const began = performance.now();
  const pieces = write(opened.model, opened.tokenizer, prompt, {
    tokens: flags.tokens,
    temperature: flags.temperature,
    topP: flags.topP,
    seed,
  });
  let text = '';
  let next = await pieces.next();
  for (; !next.done; next = await pieces.next()) {
    text += next.value;
    // A model of bytes can make control characters: a file gets them, a terminal must not.
    if (!voice.json) stdout.write(terminal ? printable(next.value) : next.value);
  }
  const tokens = next.value;
  const seconds = (performance.now() - began) / 1000;
  const tokensPerSecond = tokens / seconds;
  if (!voice.json) stdout.write('\n');
  voice.say(
    '',
    dim(`${tokens} tokens in ${duration(seconds)} (${whole(tokensPerSecond)} a second)`),
  );
  voice.result({
    run: opened.folder,
    step: opened.step,
    prompt,
    text,
    tokens,
    seed,
    temperature: flags.temperature,
    topP: flags.topP,
    tokensPerSecond,
    seconds,
  });
}
