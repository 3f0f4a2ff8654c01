// Configuration keys as flags: made from the schema, so that a new key is a flag the moment it exists.
import { type ConfigKey, type ConfigLayer, configKeys, didYouMean } from '@baleen/trainer';
import type { Command } from 'commander';

import { usageError } from './errors';

/** Short names of configuration keys. A key at the top level needs none: its dotted name is short. */
const shortNames: Readonly<Partial<Record<string, string>>> = {
  'data.sources': 'data',
  'layout.ranks': 'ranks',
  'layout.pp': 'pp',
  'layout.schedule': 'schedule',
  'layout.ep': 'ep',
};

/** Top-level keys that help lists among the ordinary flags. */
const ordinary: Readonly<Partial<Record<string, string>>> = {
  'data.sources': '<names>',
  steps: '<n>',
  precision: '<name>',
  seed: '<n>',
  threads: '<n>',
  'layout.ranks': '<n>',
  'layout.pp': '<n>',
  'layout.schedule': '<name>',
  'layout.ep': '<n>',
};

/**
 * Which keys a command takes that has use for some of them only.
 * @param parts - keys, and what they begin with before a dot
 * @returns whether a key is among them
 */
export function among(...parts: readonly string[]): (key: string) => boolean {
  return (key) => parts.some((part) => key === part || key.startsWith(`${part}.`));
}

/**
 * Adds `--preset`, `--config` and a flag for every configuration key.
 * @param command - the command that takes a configuration
 * @param takes - whether it has use for a key (default: for all)
 */
export function addConfigFlags(
  command: Command,
  takes: (key: string) => boolean = () => true,
): void {
  command.option('--preset <name>', 'start from a preset (`baleen presets` lists them)');
  command.option('--config <file>', 'a JSON or YAML file of configuration keys');
  const keys = configKeys().filter(({ key }) => takes(key));
  for (const entry of keys) {
    const placeholder = ordinary[entry.key];
    const short = shortNames[entry.key];
    const description = describe(entry);
    if (placeholder !== undefined) {
      command.addOption(
        command
          .createOption(`--${short ?? entry.key} ${placeholder}`, description)
          .argParser((text, before) => parse(entry, `--${short ?? entry.key}`, text, before)),
      );
    }
    if (placeholder !== undefined && short === undefined) continue;
    command.addOption(
      command
        .createOption(`--${entry.key} ${valueName(entry)}`, description)
        .helpGroup('Configuration keys:')
        .argParser((text, before) => parse(entry, `--${entry.key}`, text, before)),
    );
  }
}

/**
 * The configuration keys that were given as flags.
 * @param options - what commander parsed
 * @returns a layer for `resolveConfig`, or undefined when no key was given
 */
export function flagLayer(options: Readonly<Record<string, unknown>>): ConfigLayer | undefined {
  const values: Record<string, unknown> = {};
  for (const { key } of configKeys()) {
    const short = shortNames[key];
    const value = options[key] ?? (short === undefined ? undefined : options[short]);
    if (value !== undefined) place(values, key.split('.'), value === none ? null : value);
  }
  return Object.keys(values).length === 0 ? undefined : { origin: 'flag', values };
}

function place(values: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [first, ...rest] = path;
  if (rest.length === 0) {
    values[first] = value;
    return;
  }
  const inner = (values[first] ?? {}) as Record<string, unknown>;
  values[first] = inner;
  place(inner, rest, value);
}

/** Stands for null between commander, which would take null for "not given", and the layer. */
const none: unique symbol = Symbol('none');

function describe({ description, choices }: ConfigKey): string {
  return choices === undefined ? description : `${description} (${choices.join(', ')})`;
}

function valueName({ type }: ConfigKey): string {
  switch (type) {
    case 'number':
      return '<n>';
    case 'boolean':
      return '<true|false>';
    case 'array':
      return '<list>';
    default:
      return '<value>';
  }
}

function parse(entry: ConfigKey, flag: string, text: string, before: unknown): unknown {
  const value = text.trim();
  if (entry.nullable && (value === 'null' || value === 'none')) return none;
  if (entry.choices !== undefined) {
    if (entry.choices.includes(value)) return value;
    throw usageError(
      'VALUE',
      `${flag} (${text}) is not one of ${entry.choices.join(', ')}`,
      didYouMean(value, entry.choices, `give ${entry.takes}`),
      flag,
    );
  }
  switch (entry.type) {
    case 'number': {
      const number = Number(value);
      if (value !== '' && Number.isFinite(number)) return number;
      throw usageError('VALUE', `${flag} (${text}) is not a number`, `give ${entry.takes}`, flag);
    }
    case 'boolean':
      if (value === 'true' || value === 'false') return value === 'true';
      throw usageError(
        'VALUE',
        `${flag} (${text}) is not true or false`,
        `give ${entry.takes}`,
        flag,
      );
    case 'array': {
      const items = value.startsWith('[')
        ? (json(flag, value) as unknown[])
        : value
            .split(',')
            .map((item) => item.trim())
            .filter((item) => item !== '');
      // A flag given twice adds: `--data a.txt --data b.txt`.
      return Array.isArray(before) ? [...(before as unknown[]), ...items] : items;
    }
    case 'string':
      return text;
    default:
      return json(flag, value);
  }
}

function json(flag: string, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw usageError('VALUE', `${flag} (${text}) is not JSON`, 'quote it for the shell', flag);
  }
}
