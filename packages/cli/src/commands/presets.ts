// `baleen presets [name]`: what there is to train, and each preset as a configuration file that explains itself, with what
// decoding takes beside it.
import { countParameters } from '@baleen/model';
import {
  configKeys,
  modelConfigOf,
  presetDescriptions,
  presets,
  type TrainConfig,
} from '@baleen/trainer';
import type { Command } from 'commander';

import { decodeLines, decodeReport } from '../decode-report';
import { count, table } from '../format';
import { invocation } from '../invocation';
import type { Voice } from '../io';
import { numberFlag } from '../numbers';
import { isPreset, presetOf } from '../settings';
import { addCommonFlags, examplesText } from '../shape';

interface PresetFlags {
  context?: number;
  sequences: number;
  teraflops: number;
  bandwidth: number;
}

/** Adds arguments, flags and the action. */
export function define(command: Command, voice: Voice): void {
  command
    .description(
      'List the presets, or print one as a configuration file, every key explained, and beside it (on stderr) what its\n' +
        'cache holds and decoding takes.',
    )
    .argument('[name]', 'a preset')
    .option(
      '--context <n>',
      'tokens of each sequence that decodes (default: the longest, at most 4096)',
      numberFlag('--context', { least: 1, whole: true }),
    )
    .option(
      '--sequences <n>',
      'sequences that decode together',
      numberFlag('--sequences', { least: 1, whole: true }),
      128,
    )
    .option(
      '--teraflops <n>',
      'peak of the processor, in 10¹² operations a second (default: an H800’s)',
      numberFlag('--teraflops', { least: Number.MIN_VALUE }),
      865,
    )
    .option(
      '--bandwidth <n>',
      'of its memory, in GB/s (default: an H800’s)',
      numberFlag('--bandwidth', { least: Number.MIN_VALUE }),
      3350,
    )
    .addHelpText(
      'after',
      examplesText([
        ['baleen presets', 'what there is'],
        ['baleen presets tiny > mine.yaml', 'a configuration file to change'],
        ['baleen train --config mine.yaml', 'and to train'],
        ['baleen presets v3-671b --context 32768', 'V3, and what decoding takes at 32,768 tokens'],
      ]),
    );
  addCommonFlags(command);
  command.action(async (name: string | undefined, flags: PresetFlags) => {
    if (name === undefined) list(voice);
    else await show(name, flags, voice);
  });
}

function list(voice: Voice): void {
  const rows = Object.entries(presets).map(([name, make]) => {
    const config = make();
    const { total, active } = countParameters(modelConfigOf(config));
    const tokens = trainedTokens(config);
    const description = isPreset(name) ? presetDescriptions[name] : '';
    return { name, params: total, activeParams: active, steps: config.steps, tokens, description };
  });
  voice.result({ presets: rows });
  const { bold, cyan, dim } = voice.out;
  const lines = table(
    [
      ['', 'parameters', 'active', 'steps', 'tokens'],
      ...rows.map((row) => [
        row.name,
        count(row.params),
        count(row.activeParams),
        String(row.steps),
        count(row.tokens),
      ]),
    ],
    [1, 2, 3, 4],
  );
  voice.print(bold(lines[0]));
  rows.forEach((row, index) => {
    voice.print(lines[index + 1].replace(row.name, cyan(row.name)), `    ${dim(row.description)}`);
  });
  const command = invocation(voice.io.env, process.cwd());
  voice.print('', `  ${command} presets tiny    prints one, every key explained`);
}

function trainedTokens({ batch, steps }: TrainConfig): number {
  const ramped = batch.rampShare * (batch.sequences - batch.rampFrom) * 0.5;
  return steps * batch.sequence * (batch.sequences - ramped);
}

async function show(name: string, flags: PresetFlags, voice: Voice): Promise<void> {
  const config = presetOf(name);
  const { context = Math.min(config.model.maxSequence, 4096), sequences } = flags;
  const peaks = { flopsPerSecond: 1e12 * flags.teraflops, bytesPerSecond: 1e9 * flags.bandwidth };
  const decoding = decodeReport(config.model, { context, sequences, peaks });
  voice.result({ preset: name, config, decoding });
  if (voice.json) return;
  voice.print(
    `# Preset ${name}: ${isPreset(name) ? presetDescriptions[name] : ''}`,
    ...(await explained(config, voice)),
  );
  voice.say('', ...decodeLines(decoding));
}

/** The configuration as YAML, each key's meaning beside it. */
async function explained(config: TrainConfig, voice: Voice): Promise<string[]> {
  const { Document, isCollection, isNode, stringify } = await import('yaml');
  const options = { lineWidth: 0, flowCollectionPadding: false } as const;
  const document = new Document(config);
  const keys = configKeys();
  const leaves = keys.flatMap(({ key, description, choices }) => {
    const node = document.getIn(key.split('.'), true);
    // YaRN is null or has keys of its own, which are explained one by one.
    const parent = isCollection(node) && keys.some((other) => other.key.startsWith(`${key}.`));
    if (!isNode(node) || parent) return [];
    if (isCollection(node)) node.flow = true;
    const comment = ` ${description}${choices ? ` (${choices.join(', ')})` : ''}`;
    return [{ path: key.split('.'), comment }];
  });
  // Without the comments first, to know where a line's value ends.
  const plain = stringify(document, options).trimEnd().split('\n');
  for (const { path, comment } of leaves) {
    const node = document.getIn(path, true);
    if (isNode(node)) node.comment = comment;
  }
  const full = stringify(document, options).trimEnd().split('\n');
  const width = Math.max(...plain.map((line) => line.length).filter((length) => length < 44));
  return plain.map((line, index) => {
    const comment = full[index].slice(line.length).trim();
    return comment === '' ? line : `${line.padEnd(width)}  ${voice.out.dim(comment)}`;
  });
}
