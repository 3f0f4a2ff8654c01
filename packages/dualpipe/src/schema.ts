// The form of a schedule as JSON Schema (2020-12): what editors and other programs check, and what `parseSchedule` reads.
// It says what a schedule looks like, not whether it is right: that is `validateSchedule`'s. And the form of times of phases.

/** The parts of JSON Schema that the schema is written in. */
export interface JsonSchema {
  /** The dialect. */
  readonly $schema?: string;
  /** Its name. */
  readonly title?: string;
  /** In words. */
  readonly description?: string;
  /** Kind of value. */
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'number';
  /** The one value. */
  readonly const?: string;
  /** The values. */
  readonly enum?: readonly string[];
  /** Smallest number. */
  readonly minimum?: number;
  /** Keys of an object. */
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  /** Keys that must be there. */
  readonly required?: readonly string[];
  /** Whether there may be others. */
  readonly additionalProperties?: boolean;
  /** Entries of an array. */
  readonly items?: JsonSchema;
  /** Least number of entries. */
  readonly minItems?: number;
  /** Forms of an object, told apart by their `kind`. */
  readonly oneOf?: readonly JsonSchema[];
}

const index: JsonSchema = { type: 'integer', minimum: 0 };
const size: JsonSchema = { type: 'integer', minimum: 1 };

function object(properties: Record<string, JsonSchema>, optional: string[] = []): JsonSchema {
  const required = Object.keys(properties).filter((key) => !optional.includes(key));
  return { type: 'object', properties, required, additionalProperties: false };
}

const list = (items: JsonSchema, minItems = 0): JsonSchema => ({ type: 'array', items, minItems });
const cell = { stage: index, microBatch: index };

/**
 * JSON Schema of a {@link Schedule}, with its actions of every kind.
 *
 * @example
 * ```ts
 * import { scheduleSchema } from '@baleen/dualpipe';
 * console.log(scheduleSchema.required?.join(' '));
 * // => format method ranks stages microBatches pipelines actions
 * ```
 */
export const scheduleSchema: JsonSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'Pipeline schedule',
  description: 'For each rank of a pipeline, the order of what it does.',
  ...object(
    {
      format: { const: 'baleen-schedule/1' },
      method: { type: 'string', description: 'how it was made' },
      ranks: size,
      stages: { ...size, description: 'parts of the model, in the order of its forward' },
      microBatches: { ...size, description: 'of a step, over all pipelines' },
      pipelines: {
        description: 'copies of the model cut over the ranks, each with its micro-batches',
        ...list(object({ rankOfStage: list(index, 1), microBatches: list(index) }), 1),
      },
      maxInFlight: {
        description: 'activations, of one stage and micro-batch each, that a rank may hold',
        ...list(index, 1),
      },
      actions: {
        description: 'of each rank, in order',
        ...list(
          list({
            oneOf: [
              object({
                kind: { enum: ['forward', 'inputGrad', 'weightGrad', 'fullBackward'] },
                ...cell,
              }),
              object({
                kind: { const: 'overlap' },
                forward: object(cell),
                backward: object(cell),
              }),
              object({
                kind: { enum: ['send', 'receive'] },
                tensor: { enum: ['activation', 'gradient'] },
                ...cell,
                peer: index,
              }),
            ],
          }),
          1,
        ),
      },
    },
    ['maxInFlight'],
  ),
};

const amount: JsonSchema = { type: 'number', minimum: 0 };
const layer = object({ attention: amount, dispatch: amount, experts: amount, combine: amount });

/** JSON Schema of {@link PhaseTimes}. */
export const phasesSchema: JsonSchema = object(
  {
    layers: size,
    forward: layer,
    inputGrad: layer,
    weightGrad: object({ attention: amount, experts: amount }),
    processors: object(
      { total: amount, communication: amount, measuredOn: amount, filling: amount },
      ['measuredOn', 'filling'],
    ),
  },
  ['processors'],
);
