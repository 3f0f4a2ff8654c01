// From layers of values (preset, file, flags) to one checked configuration that remembers where each value came from.
import { checkSizes } from '@baleen/dualpipe';
import { fp8Recipe } from '@baleen/fp8';
import { checkConfig, cutStages, type ModelConfig } from '@baleen/model';

import { type TrainConfig, trainConfigSchema } from './config';
import { configKeys, type JsonSchema, jsonSchema, present, schemaAt, takesOf } from './config-keys';
import { byteVocabulary } from './data/index';
import { didYouMean } from './nearest';
import { stageCount } from './ranks/layout';
import { batchAt } from './schedule';

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
  fitRanks(parsed.data, origins);
  fitMicroBatch(parsed.data, origins);
  checkTrainConfig(parsed.data);
  return { config: parsed.data, origins };
}

/** Where nobody said how many ranks, there are as many as the pipeline and the experts ask for. */
function fitRanks({ layout }: TrainConfig, origins: Record<string, string>): void {
  const key = 'layout.ranks';
  if (!Object.hasOwn(origins, key) || !origins[key].startsWith('preset ')) return;
  if (layout.ranks > 1 || layout.pp * layout.ep === 1) return;
  layout.ranks = layout.pp * layout.ep;
  origins[key] = 'layout.pp and layout.ep';
}

/** A preset's micro-batch is for one rank: where more ranks share the batch and nobody chose another, it shrinks. */
function fitMicroBatch(config: TrainConfig, origins: Record<string, string>): void {
  const key = 'batch.microBatch';
  const { batch } = config;
  if (!Object.hasOwn(origins, key) || !origins[key].startsWith('preset ')) return;
  const divides = (count: number): boolean =>
    batch.sequences % count === 0 &&
    (batch.rampShare === 0 || batch.rampFrom % count === 0) &&
    (batch.rampBy ?? 0) % count === 0;
  for (let count = batch.microBatch; count >= 1; count -= 1) {
    if (!divides(count) || shareProblem({ ...config, batch: { ...batch, microBatch: count } }))
      continue;
    if (count < batch.microBatch) origins[key] = 'layout.ranks';
    batch.microBatch = count;
    return;
  }
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
  if (batch.rampBy !== null && batch.rampBy % batch.microBatch !== 0)
    refuse(
      'BATCH',
      'batch.rampBy',
      `config.batch.rampBy (${batch.rampBy}) is not a multiple of config.batch.microBatch (${batch.microBatch})`,
      'choose a multiple, a smaller micro-batch, or null',
    );
  checkLayout(config);
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

/** Refuses layouts that leave a rank without work, or a group of ranks with passes that do not meet. */
function checkLayout(config: TrainConfig): void {
  const { layout, model } = config;
  const { ranks, pp, ep, schedule } = layout;
  const divides = (key: string, value: number, of: string, total: number, hint: string): void => {
    if (total % value !== 0)
      refuse(
        'LAYOUT',
        `layout.${key}`,
        `config.layout.${key} (${value}) does not divide ${of} (${total})`,
        hint,
      );
  };
  divides('pp', pp, 'config.layout.ranks', ranks, 'choose a divisor: every pipeline is as long');
  const lanes = pp === 1 ? 'config.layout.ranks' : 'config.layout.ranks / config.layout.pp';
  divides(
    'ep',
    ep,
    lanes,
    ranks / pp,
    'choose a divisor: every group of ep ranks holds all experts',
  );
  divides(
    ...(['ep', ep, 'config.model.moe.routedExperts', model.moe.routedExperts] as const),
    'choose a divisor: every rank of a group holds as many experts',
  );
  if (pp > 1) {
    asLayout('layout.schedule', `config.layout.schedule (${schedule})`, () => {
      checkSizes(schedule, { ranks: pp, microBatches: 2 * pp });
    });
    asLayout('layout.pp', `config.layout.pp (${pp}) with schedule ${schedule}`, () =>
      cutStages(modelConfigOf(config, 1), stageCount(layout)),
    );
  }
  const problem = shareProblem(config);
  if (problem) refuse('LAYOUT', problem.path, problem.message, problem.hint);
}

/** Says what a layout asks of whatever refuses it. */
function asLayout(path: string, what: string, check: () => unknown): void {
  try {
    check();
  } catch (error) {
    const { message, hint } = error as Error & { hint: string };
    refuse('LAYOUT', path, `${what}: ${message}`, hint);
  }
}

/** What keeps ranks from sharing the micro-batches of some step; null where all is well. */
function shareProblem({
  layout: { ranks, pp, ep, schedule },
  batch,
  steps,
}: TrainConfig): { path: string; message: string; hint: string } | null {
  if (ranks === 1) return null;
  const lanes = ranks / pp;
  const ramps = Math.min(steps, Math.ceil(batch.rampShare * steps) + 1);
  const counts = new Map<number, number>();
  for (let step = 0; step < ramps; step += 1) {
    const count = batchAt(batch, steps, step) / batch.microBatch;
    if (!counts.has(count)) counts.set(count, step);
  }
  const fewer = `lower batch.microBatch (${batch.microBatch}), raise batch.sequences, or use fewer ranks`;
  const sharing = pp === 1 ? `config.layout.ranks (${ranks})` : `${lanes} pipelines`;
  const share = 2 * lanes * batch.microBatch;
  const ramped = `while the batch grows: choose batch.rampFrom (${batch.rampFrom}) and batch.rampBy (${batch.rampBy}) as multiples of ${share}, or batch.rampShare 0`;
  for (const [count, step] of counts) {
    const hint = count * batch.microBatch === batch.sequences ? fewer : ramped;
    const what = `step ${step + 1} has ${count} micro-batch${count === 1 ? '' : 'es'} (config.batch)`;
    if (count < lanes)
      return { path: 'layout.ranks', message: `${what}, fewer than ${sharing}`, hint };
    if (ep > 1 && count % lanes !== 0)
      return {
        path: 'layout.ranks',
        message: `${what}, no multiple of ${sharing} as config.layout.ep (${ep}) needs`,
        hint,
      };
    if (pp === 1) continue;
    for (const each of new Set([Math.floor(count / lanes), Math.ceil(count / lanes)]))
      try {
        checkSizes(schedule, { ranks: pp, microBatches: each });
      } catch (error) {
        const { message } = error as Error;
        return {
          path: 'layout.schedule',
          message: `${what}, ${each} for each pipeline, but config.layout.schedule (${schedule}): ${message}`,
          hint: `${hint}; gpipe, 1f1b and zb1p take any number`,
        };
      }
  }
  return null;
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
