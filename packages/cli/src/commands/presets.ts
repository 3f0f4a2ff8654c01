// `baleen presets [name]`: what there is to train, and each preset as a configuration file that explains itself.
import { countParameters } from '@baleen/model';
import {
  configKeys,
  modelConfigOf,
  presetDescriptions,
  presets,
  type TrainConfig,
} from '@baleen/trainer';
import type { Command } from 'commander';

import { count, table } from '../format';
import { invocation } from '../invocation';
import type { Voice } from '../io';
import { isPreset, presetOf } from '../settings';
import { addCommonFlags, examplesText } from '../shape';

/** Adds arguments, flags and the action. */
export function define(command: Command, voice: Voice): void {
  command
    .description('List the presets, or print one as a configuration file, every key explained.')
    .argument('[name]', 'a preset')
    .addHelpText(
      'after',
      examplesText([
        ['baleen presets', 'what there is'],
        ['baleen presets tiny > mine.yaml', 'a configuration file to change'],
        ['baleen train --config mine.yaml', 'and to train'],
      ]),
    );
  addCommonFlags(command);
  command.action(async (name: string | undefined) => {
    if (name === undefined) list(voice);
    else await show(name, voice);
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

async function show(name: string, voice: Voice): Promise<void> {
  const config = presetOf(name);
  voice.result({ preset: name, config });
  if (!voice.json)
    voice.print(
      `# Preset ${name}: ${isPreset(name) ? presetDescriptions[name] : ''}`,
      ...(await explained(config, voice)),
    );
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
