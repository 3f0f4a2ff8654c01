// `baleen chat <run or checkpoint>`: a talk in turns, a line each. A base model knows no turns: both sides add to one text.
import { setThreads } from '@baleen/kernels';
import { TextMemory } from '@baleen/model';
import { openRun } from '@baleen/trainer';
import type { Command } from 'commander';

import { usageError } from '../errors';
import { duration, printable, whole } from '../format';
import type { Voice } from '../io';
import { shown } from '../run-folder';
import {
  addSamplingFlags,
  draftsInWords,
  draftsReport,
  type SamplingFlags,
  writeOptions,
} from '../sampling-flags';
import { addCommonFlags, examplesText } from '../shape';
import { readLines } from '../stdin';
import { Talk } from '../writing';

/** A turn, as `--json` prints it. */
interface Turn {
  said: string;
  answer: string;
  tokens: number;
}

/** Adds arguments, flags, help and the action. */
export function define(command: Command, voice: Voice): void {
  command
    .description(
      'Talk with a run or checkpoint, a line at a time, until stdin ends (Ctrl-D) or Ctrl-C. What is trained on\n' +
        'text alone knows no turns: each line is added to the text so far, on a line of its own, and the model\n' +
        'goes on from there, until its document ends or --tokens are made. What was said stays in the cache, so\n' +
        'a turn reads only what is new; of a talk longer than the context the second half stays.',
    )
    .argument('<run>', 'a run folder, one of its checkpoints, or a Hugging Face folder');
  addSamplingFlags(command, 100, 'an answer');
  command.addHelpText(
    'after',
    examplesText([
      ['baleen chat runs/tiny-1', 'talk in the terminal'],
      ['baleen chat runs/tiny-1 --temperature 0 < lines.txt', 'an answer to each line of a file'],
      ['baleen chat runs/tiny-1 --temperature 0 --drafts 1', 'the same, sooner'],
      ['baleen chat runs/tiny-1 --json < lines.txt', 'for programs'],
    ]),
  );
  addCommonFlags(command);
  command.action(async (run: string, flags: SamplingFlags) => {
    const input = voice.io.stdin?.();
    if (!input)
      throw usageError(
        'STDIN',
        'chat reads what is said from stdin, and there is none',
        '`baleen generate` continues a text that is given as a flag',
      );
    setThreads(flags.threads);
    const { model, tokenizer, folder, step } = await openRun(run);
    const signal = voice.io.interrupts();
    const seeded = Math.floor(Math.random() * 2 ** 31);
    const options = { ...writeOptions(flags, seeded, model), signal };
    const { dim, bold } = voice.err;
    const { seed } = options;
    voice.say(dim(`${shown(folder)}, step ${whole(step)}, seed ${seed}`), '');
    const { stdout, stderr } = voice.io;
    const memory = new TextMemory(model, options);
    const talk = new Talk(model, tokenizer, memory);
    const turns: Turn[] = [];
    const began = performance.now();
    let seconds = 0;
    const ask = (): void => {
      if (input.isTTY && !voice.quiet) stderr.write(bold('> '));
    };
    try {
      ask();
      for await (const said of readLines(input, signal)) {
        const turn = { said, answer: '', tokens: 0 };
        turns.push(turn);
        const start = performance.now();
        const pieces = talk.answer(said, options);
        let next = await pieces.next();
        for (; !next.done; next = await pieces.next()) {
          turn.answer += next.value;
          const text = stdout.isTTY === true ? printable(next.value) : next.value;
          if (!voice.json) stdout.write(text);
        }
        turn.tokens = next.value;
        seconds += (performance.now() - start) / 1000;
        if (!voice.json) stdout.write('\n');
        if (signal.aborted) break;
        ask();
      }
    } finally {
      memory.release();
    }
    const tokens = turns.reduce((sum, turn) => sum + turn.tokens, 0);
    const all = (performance.now() - began) / 1000;
    voice.say(
      '',
      dim(
        `${turns.length} turns, ${tokens} tokens in ${duration(seconds)} of ${duration(all)}` +
          draftsInWords(options.counts),
      ),
    );
    const { temperature, topP } = options;
    const shared = { temperature, topP, ...draftsReport(options), seconds };
    voice.result({ run: folder, step, turns, tokens, seed, ...shared });
  });
}
