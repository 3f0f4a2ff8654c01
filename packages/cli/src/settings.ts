// One configuration from what was asked: a preset or an earlier run, a file over it, flags over both.
import { parse } from 'node:path';

import {
  type ConfigLayer,
  didYouMean,
  type FoundRun,
  findRun,
  type PresetName,
  presets,
  resolveConfig,
  type TrainConfig,
} from '@baleen/trainer';

import { readConfigFile } from './config-file';
import { usageError } from './errors';
import { flagLayer } from './flags';

/** A resolved configuration and what is known about it. */
export interface Settings {
  /** The configuration. */
  config: TrainConfig;
  /** Where each dotted key's value came from. */
  origins: Record<string, string>;
  /** The preset it builds on, or null. */
  preset: string | null;
  /** What its run folders are called after. */
  name: string;
  /** The run that is resumed, or null. */
  resumed: FoundRun | null;
}

/** The flags that choose where a configuration starts; keys are read by `flagLayer`. */
export interface SettingsOptions {
  /** `--preset`. */
  preset?: string;
  /** `--config`. */
  config?: string;
  /** `--resume`. */
  resume?: string;
}

/** Whether a name is a preset's. */
export function isPreset(name: string): name is PresetName {
  return Object.hasOwn(presets, name);
}

/**
 * A preset by its name.
 * @param name - what was typed
 * @returns its configuration
 * @throws `ERR_BALEEN_USAGE_PRESET` with the nearest name
 */
export function presetOf(name: string): TrainConfig {
  if (isPreset(name)) return presets[name]();
  const names = Object.keys(presets);
  throw usageError(
    'PRESET',
    `there is no preset ${name}`,
    didYouMean(name, names, `the presets are ${names.join(', ')}`),
    '--preset',
  );
}

/**
 * Resolves the configuration of a command. Flags win over the file, the file over the preset (or over the run that is
 * resumed).
 * @param options - what commander parsed, configuration keys included
 * @param fallback - preset when neither a preset, a file nor a run is named
 * @param overPreset - a layer between the preset and the file
 * @param launched - a layer between the file and the flags: what a launcher decides
 * @returns the configuration with its origins
 */
export async function resolveSettings(
  options: SettingsOptions & Readonly<Record<string, unknown>>,
  fallback: PresetName,
  overPreset?: ConfigLayer,
  launched?: ConfigLayer,
): Promise<Settings> {
  const layers: ConfigLayer[] = [];
  let preset: string | null = null;
  let name: string | undefined;
  let resumed: FoundRun | null = null;
  if (options.resume !== undefined) {
    if (options.preset !== undefined)
      throw usageError(
        'FLAG',
        `--resume ${options.resume} and --preset ${options.preset} both say where to start`,
        'leave --preset out: a run keeps its own configuration',
        '--preset',
      );
    resumed = findRun(options.resume);
    if (resumed.config === null)
      throw usageError(
        'RESUME',
        `--resume ${options.resume} holds weights alone, not a run`,
        'name a run folder, such as runs/tiny-1, or one of its checkpoints',
        '--resume',
      );
    ({ preset } = resumed);
    layers.push({ origin: 'run', values: resumed.config });
  }
  const file = options.config === undefined ? undefined : await readConfigFile(options.config);
  const chosen =
    options.resume === undefined
      ? (options.preset ?? file?.preset ?? (file ? undefined : fallback))
      : undefined;
  if (chosen !== undefined) {
    layers.push({ origin: `preset ${chosen}`, values: presetOf(chosen) });
    preset = chosen;
  }
  if (overPreset) layers.push(overPreset);
  if (file && options.config !== undefined) {
    layers.push({ origin: `file ${options.config}`, values: file.values });
    name = parse(options.config).name;
  }
  if (launched) layers.push(launched);
  const flags = flagLayer(options);
  if (flags) layers.push(flags);
  try {
    const { config, origins } = resolveConfig(layers);
    // What a resumed run leaves as it was keeps the origin it had.
    for (const [key, origin] of Object.entries(origins))
      if (origin === 'run') origins[key] = resumed?.origins[key] ?? origin;
    return { config, origins, preset, name: name ?? preset ?? 'run', resumed };
  } catch (error) {
    // A file alone must say everything; usually it was meant to build on a preset.
    if (file && layers[0]?.origin.startsWith('file ') && isAbsent(error))
      Object.assign(error, {
        hint: 'a file alone must hold every key: write `preset: tiny` at its top, or add --preset',
      });
    throw error;
  }
}

function isAbsent(error: unknown): error is Error {
  return (
    error instanceof Error &&
    (error as { code?: string }).code === 'ERR_BALEEN_CONFIG_VALUE' &&
    error.message.includes('(absent')
  );
}
