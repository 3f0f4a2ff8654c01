// A configuration file: JSON or YAML, one mapping of the same keys that the flags have.
import { readFileSync } from 'node:fs';
import { extname } from 'node:path';

import { configError } from './errors';

/**
 * Reads a configuration file. A run folder's config.json is one too: its resolved values are taken.
 * @param path - a `.json`, `.yaml` or `.yml` file
 * @returns the preset it builds on (its own top-level key), and its values
 */
export async function readConfigFile(
  path: string,
): Promise<{ preset: string | undefined; values: Record<string, unknown> }> {
  const kind = extname(path).toLowerCase();
  if (!['.json', '.yaml', '.yml'].includes(kind))
    throw configError(
      'FILE',
      `--config ${path}: ${kind === '' ? 'no file type' : kind} is not a configuration format`,
      'use .json, .yaml or .yml',
      path,
    );
  const parsed = await parse(path, read(path), kind);
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw configError(
      'FILE',
      `--config ${path} holds no keys`,
      'write a mapping, such as `steps: 500`; `baleen presets tiny` prints a complete one',
      path,
    );
  const { preset, ...values } = parsed as Record<string, unknown>;
  if (preset !== undefined && preset !== null && typeof preset !== 'string')
    throw configError(
      'VALUE',
      `${path}: preset (${JSON.stringify(preset)}) is not a name`,
      'write `preset: tiny`, or leave it out',
      'preset',
    );
  const { config } = values;
  const resolved =
    'origins' in values && typeof config === 'object' && config !== null
      ? (config as Record<string, unknown>)
      : undefined;
  return { preset: resolved ? undefined : (preset ?? undefined), values: resolved ?? values };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as { code?: string };
    throw configError(
      'FILE',
      code === 'ENOENT'
        ? `--config ${path} does not exist`
        : `--config ${path} cannot be read (${code ?? String(error)})`,
      'check the path; `baleen presets tiny` prints a complete configuration to start from',
      path,
    );
  }
}

async function parse(path: string, text: string, kind: string): Promise<unknown> {
  try {
    if (kind === '.json') return JSON.parse(text) as unknown;
    // Loaded only here: most commands read no file.
    const { parse: parseYaml } = await import('yaml');
    return parseYaml(text) as unknown;
  } catch (error) {
    const [first] = (error instanceof Error ? error.message : String(error)).split('\n');
    throw configError(
      'FILE',
      `--config ${path} is not ${kind === '.json' ? 'JSON' : 'YAML'}: ${first}`,
      'correct the file at that place',
      path,
    );
  }
}
