// The configuration's keys as its schema has them: what each is and takes, for flags, help, docs and remedies.
import { z } from 'zod';

import { trainConfigSchema } from './config';
import { type NumberLimits, numberInWords } from './number-limits';

/** A key of the configuration, as a flag or a row of a table shows it. */
export interface ConfigKey {
  /** Dotted name. */
  key: string;
  /** What it is. */
  description: string;
  /** Type of its value. */
  type: 'number' | 'string' | 'boolean' | 'array' | 'object';
  /** Values it may have, where they are few. */
  choices?: string[];
  /** It may be null. */
  nullable: boolean;
  /** What it takes in words, range and null included: `a whole number from 1`. */
  takes: string;
}

/** What is read of the JSON Schema. */
export interface JsonSchema {
  /** Type of the value. */
  type?: string;
  /** What it is. */
  description?: string;
  /** Values it may have. */
  enum?: string[];
  /** Keys of an object. */
  properties?: Record<string, JsonSchema>;
  /** Items of a list. */
  items?: JsonSchema;
  /** Fewest items. */
  minItems?: number;
  /** Smallest number. */
  minimum?: number;
  /** Largest number. */
  maximum?: number;
  /** What a number must exceed. */
  exclusiveMinimum?: number;
  /** What a number must stay below. */
  exclusiveMaximum?: number;
  /** A value, or null. */
  anyOf?: JsonSchema[];
}

let made: JsonSchema | undefined;

/** The configuration's JSON Schema, made when it is first asked for: not every command does. */
export function jsonSchema(): JsonSchema {
  return (made ??= z.toJSONSchema(trainConfigSchema) as JsonSchema);
}

/** The JSON Schema of configuration files, without required keys: a file may say only what it changes. */
export function configJsonSchema(): object {
  const loosen = (schema: unknown): unknown =>
    typeof schema !== 'object' || schema === null
      ? schema
      : Array.isArray(schema)
        ? schema.map(loosen)
        : Object.fromEntries(
            Object.entries(schema)
              .filter(([key, value]) => !(key === 'required' && Array.isArray(value)))
              .map(([key, value]) => [key, loosen(value)]),
          );
  return loosen(jsonSchema()) as object;
}

/** The schema without its null, if it had one. */
export function present(schema: JsonSchema): { schema: JsonSchema; nullable: boolean } {
  const inner = schema.anyOf?.find(({ type }) => type !== 'null');
  return inner
    ? {
        schema: { ...inner, description: schema.description ?? inner.description ?? '' },
        nullable: true,
      }
    : { schema, nullable: false };
}

/** Every key with a value of its own, dotted, in the schema's order. */
export function configKeys(): ConfigKey[] {
  const keys: ConfigKey[] = [];
  const walk = (schema: JsonSchema, prefix: string): void => {
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      const { schema: inner, nullable } = present(property);
      const key = prefix + name;
      if (!inner.properties || nullable)
        keys.push({
          key,
          description: inner.description ?? '',
          type: inner.type === 'integer' ? 'number' : (inner.type as ConfigKey['type']),
          ...(inner.enum ? { choices: inner.enum } : {}),
          nullable,
          takes: takesOf(property),
        });
      if (inner.properties) walk(inner, `${key}.`);
    }
  };
  walk(jsonSchema(), '');
  return keys;
}

/**
 * The schema under a path of keys and places in lists.
 * @param path - such as `['schedule', 'learningRate', 'finalShares', 0, 'share']`
 * @returns it, or undefined where the configuration has no such place
 */
export function schemaAt(path: readonly PropertyKey[]): JsonSchema | undefined {
  return path.reduce<JsonSchema | undefined>((at, key) => {
    const { properties, items } = at ? present(at).schema : {};
    return typeof key === 'number' ? items : properties?.[String(key)];
  }, jsonSchema());
}

/**
 * What a place of the configuration takes.
 * @param property - its schema
 * @returns in words, such as `a whole number from 1 or null`
 */
export function takesOf(property: JsonSchema): string {
  const { schema, nullable } = present(property);
  return valueInWords(schema) + (nullable ? ' or null' : '');
}

function valueInWords(schema: JsonSchema): string {
  if (schema.enum) return `one of ${schema.enum.join(', ')}`;
  switch (schema.type) {
    case 'integer':
    case 'number':
      return numberInWords(limitsOf(schema));
    case 'boolean':
      return 'true or false';
    case 'array':
      return schema.minItems === undefined ? 'a list' : `a list of ${schema.minItems} or more`;
    case 'object':
      return `a mapping of ${Object.keys(schema.properties ?? {}).join(', ')}`;
    default:
      return 'text';
  }
}

function limitsOf(schema: JsonSchema): NumberLimits {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  const safe = (limit: number | undefined): limit is number =>
    limit !== undefined && Math.abs(limit) !== Number.MAX_SAFE_INTEGER;
  return {
    whole: schema.type === 'integer',
    ...(safe(minimum) ? { least: minimum } : {}),
    ...(safe(maximum) ? { most: maximum } : {}),
    ...(safe(exclusiveMinimum) ? { above: exclusiveMinimum } : {}),
    ...(safe(exclusiveMaximum) ? { below: exclusiveMaximum } : {}),
  };
}
