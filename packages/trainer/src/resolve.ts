// From layers of values (preset, file, flags) to one checked configuration that remembers where each value came from.
import { fp8Recipe } from '@baleen/fp8';
import { checkConfig, type ModelConfig } from '@baleen/model';

import { type TrainConfig, trainConfigSchema } from './config';
import { configKeys, type JsonSchema, jsonSchema, present, schemaAt, takesOf } from './config-keys';
import { byteVocabulary } from './data/index';
import { didYouMean } from './nearest';

/** Values from one place; later layers win. */
export interface ConfigLayer {
  /** Where they come from: `preset tiny`, `file x.yaml`, `flag`. */
  origin: string;
  /** A nested object with some of the configuration's keys. */
  values: unknown;
}

function refuse(what: string, path: string, message: string, hint: string): never {
  throw Object.assign(new Error(message), { code: `ERR_BALEEN_CONFIG_${what}`, path, hint });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function unknownKey(name: string, prefix: string, schema: JsonSchema, origin: string): never {
  const siblings = Object.keys(schema.properties ?? {}).map((key) => prefix + key);
  const all = [...siblings, ...configKeys().map(({ key }) => key)];
  const full = prefix + name;
  return refuse(
    'UNKNOWN',
    full,
    `config.${full} (${origin}) is not a key of the configuration`,
    didYouMean(full, all, '`baleen presets tiny` prints every key'),
  );
}

/** Merges `values` into `target`, objects key by key, and notes the origin of every value set. */
function merge(
  target: Record<string, unknown>,
  values: Record<string, unknown>,
  schema: JsonSchema,
  prefix: string,
  origin: string,
  origins: Record<string, string>,
): void {
  for (const [name, value] of Object.entries(values)) {
    const property = Object.hasOwn(schema.properties ?? {}, name)
      ? schema.properties?.[name]
      : undefined;
    if (!property) unknownKey(name, prefix, schema, origin);
    const { schema: inner } = present(property);
    const key = prefix + name;
    if (inner.properties && isObject(value)) {
      const held = target[name];
      const next = isObject(held) ? held : {};
      target[name] = next;
      Reflect.deleteProperty(origins, key);
      merge(next, value, inner, `${key}.`, origin, origins);
    } else {
      target[name] = structuredClone(value);
      for (const old of Object.keys(origins))
        if (old.startsWith(`${key}.`)) Reflect.deleteProperty(origins, old);
      origins[key] = origin;
    }
  }
}

/** The value under a path of keys. */
function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null
        ? (value as Record<PropertyKey, unknown>)[key]
        : undefined,
    root,
  );
}

/** What a key takes, and what it is. */
function remedy(path: readonly PropertyKey[]): string {
  const schema = schemaAt(path);
  if (!schema) return '`baleen presets tiny` prints every key';
  const { description } = present(schema).schema;
  const what = description ? ` (${description})` : '';
  return `give ${takesOf(schema)}${what}`;
}

/** A value as a message shows it. */
function shown(value: unknown): string {
  return value === undefined ? 'absent' : JSON.stringify(value);
}

/**
 * Merges layers and checks the result.
 * @param layers - from the weakest to the strongest: preset, file, flags
 * @returns the configuration, and each dotted key's origin
 * @throws `ERR_BALEEN_CONFIG_UNKNOWN` with the nearest key; `ERR_BALEEN_CONFIG_VALUE` for a wrong type or range; the codes
 * of {@link checkTrainConfig} for what cannot exist
 */
export function resolveConfig(layers: readonly ConfigLayer[]): {
  /** The result. */
  config: TrainConfig;
  /** Where each dotted key's value came from. */
  origins: Record<string, string>;
} {
  const merged: Record<string, unknown> = {};
  const origins: Record<string, string> = {};
  for (const { origin, values } of layers) {
    if (!isObject(values))
      refuse('VALUE', origin, `${origin} is not an object of keys`, 'write keys and values');
    merge(merged, values, jsonSchema(), '', origin, origins);
  }
  const parsed = trainConfigSchema.safeParse(merged);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const path = issue.path.map(String).join('.');
    const origin = Object.hasOwn(origins, path) ? origins[path] : '';
    const value = shown(valueAt(merged, issue.path));
    refuse(
      'VALUE',
      path,
      `config.${path} (${value}${origin ? `, ${origin}` : ''}): ${issue.message}`,
      remedy(issue.path),
    );
  }
  checkTrainConfig(parsed.data);
  return { config: parsed.data, origins };
}

/**
 * The model's configuration with its vocabulary filled in.
 * @param config - the run's
 * @param vocabSize - the tokenizer's tokens; before it is made, what it will have
 * @returns sizes for `Decoder`
 */
export function modelConfigOf(
  config: TrainConfig,
  vocabSize: number = config.data.tokenizer.vocabSize ?? byteVocabulary,
): ModelConfig {
  return { ...config.model, vocabSize: config.model.vocabSize ?? vocabSize };
}

/**
 * Refuses runs that cannot be, naming key, value and remedy.
 * @param config - well-formed
 */
export function checkTrainConfig(config: TrainConfig): void {
  const { model, batch, data, schedule } = config;
  checkConfig(modelConfigOf(config, 1), 'config.model');
  if (batch.sequence > model.maxSequence)
    refuse(
      'SEQUENCE',
      'batch.sequence',
      `config.batch.sequence (${batch.sequence}) exceeds config.model.maxSequence (${model.maxSequence})`,
      'shorten the sequences, or raise maxSequence',
    );
  if (batch.sequence <= model.mtp.depth)
    refuse(
      'SEQUENCE',
      'batch.sequence',
      `config.batch.sequence (${batch.sequence}) leaves nothing to config.model.mtp.depth (${model.mtp.depth})`,
      'use longer sequences or fewer depths',
    );
  if (batch.sequences % batch.microBatch !== 0)
    refuse(
      'BATCH',
      'batch.microBatch',
      `config.batch.microBatch (${batch.microBatch}) does not divide config.batch.sequences (${batch.sequences})`,
      'choose a divisor',
    );
  if (batch.rampFrom > batch.sequences)
    refuse(
      'BATCH',
      'batch.rampFrom',
      `config.batch.rampFrom (${batch.rampFrom}) exceeds config.batch.sequences (${batch.sequences})`,
      'the batch grows: begin with fewer',
    );
  if (batch.rampShare > 0 && batch.rampFrom % batch.microBatch !== 0)
    refuse(
      'BATCH',
      'batch.rampFrom',
      `config.batch.rampFrom (${batch.rampFrom}) is not a multiple of config.batch.microBatch (${batch.microBatch})`,
      'choose a multiple, or a smaller micro-batch',
    );
  checkRecipe(config);
  if (data.tokenizer.kind === 'bytes' && data.tokenizer.vocabSize !== null)
    refuse(
      'TOKENIZER',
      'data.tokenizer.vocabSize',
      `config.data.tokenizer.vocabSize (${data.tokenizer.vocabSize}) is for bpe only, kind is bytes`,
      'set it to null, or kind to bpe',
    );
  if (data.tokenizer.kind === 'bpe' && data.tokenizer.vocabSize === null)
    refuse(
      'TOKENIZER',
      'data.tokenizer.vocabSize',
      'config.data.tokenizer.vocabSize (null) must say how many tokens the bpe has',
      'set it, for example to 4096',
    );
  const { warmupShare, constantShare, finalShares } = schedule.learningRate;
  const sum = finalShares.reduce((total, { share }) => total + share, warmupShare + constantShare);
  if (sum > 1 + 1e-12)
    refuse(
      'SCHEDULE',
      'schedule.learningRate',
      `config.schedule.learningRate: warmupShare, constantShare and finalShares add up to ${sum}`,
      'keep their sum at 1 or less',
    );
}

/** Refuses changes to a recipe that the run does not use. */
function checkRecipe({ precision, fp8 }: TrainConfig): void {
  if (precision === 'fp8') return;
  const v3 = fp8Recipe();
  for (const { key } of configKeys()) {
    const path = key.split('.');
    const [value, usual] = [valueAt({ fp8 }, path), valueAt({ fp8: v3 }, path)];
    if (value !== usual)
      refuse(
        'PRECISION',
        key,
        `config.${key} (${String(value)}) has no effect where config.precision is ${precision}`,
        `leave it at ${String(usual)}, or set precision to fp8`,
      );
  }
}
