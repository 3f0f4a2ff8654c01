// Reads a schedule, or times of phases, from JSON by its schema; the first thing that does not fit is named by its path.
import { scheduleError } from './errors';
import { costsOfPhases, type PhaseTimes } from './phases';
import type { Schedule } from './schedule';
import { type JsonSchema, phasesSchema, scheduleSchema } from './schema';

/**
 * Reads a schedule.
 * @param source - JSON text, or a value that JSON was parsed to
 * @returns the same as a schedule; {@link validateSchedule} says whether it is right
 * @throws ERR_BALEEN_SCHEDULE_JSON for text that is not JSON; ERR_BALEEN_SCHEDULE_FORM for what does not fit
 *   {@link scheduleSchema}, with the path
 */
export function parseSchedule(source: unknown): Schedule {
  const value = typeof source === 'string' ? parseJson(source, 'a schedule') : source;
  checkForm(value, scheduleSchema, '');
  return value as Schedule;
}

/**
 * Reads times of phases.
 * @param source - JSON text, or a value that JSON was parsed to
 * @returns the same as times for {@link simulate} and {@link stageTimes}
 * @throws ERR_BALEEN_SCHEDULE_JSON for text that is not JSON; ERR_BALEEN_SCHEDULE_FORM for what is not {@link PhaseTimes}, with
 *   the path; ERR_BALEEN_SCHEDULE_COSTS for processors that cannot be shared so
 *
 * @example
 * ```ts
 * import { parsePhases, publishedProfile } from '@baleen/dualpipe';
 * console.log(parsePhases(JSON.stringify(publishedProfile)).layers); // => 4
 * ```
 */
export function parsePhases(source: unknown): PhaseTimes {
  const value = typeof source === 'string' ? parseJson(source, 'times of phases') : source;
  checkForm(value, phasesSchema, '');
  costsOfPhases(value as PhaseTimes);
  return value as PhaseTimes;
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw scheduleError(
      'JSON',
      '',
      `${what}: not JSON: ${(error as Error).message}`,
      'give what JSON.stringify makes of it',
    );
  }
}

/** The parts of JSON Schema that {@link JsonSchema} has. */
function checkForm(value: unknown, schema: JsonSchema, path: string): void {
  if (schema.oneOf) {
    checkForm(value, formOf(value, schema.oneOf, path), path);
    return;
  }
  const allowed = schema.const === undefined ? schema.enum : [schema.const];
  if (allowed && !allowed.some((each) => each === value))
    throw misfit(path, value, `is not ${allowed.join(' or ')}`, `write ${allowed.join(' or ')}`);
  switch (schema.type) {
    case 'string':
      if (typeof value !== 'string') throw misfit(path, value, 'is not a text', 'write a text');
      break;
    case 'integer': {
      const { minimum = 0 } = schema;
      if (!Number.isSafeInteger(value) || (value as number) < minimum)
        throw misfit(path, value, `is not a whole number from ${minimum}`, `count from ${minimum}`);
      break;
    }
    case 'number': {
      const { minimum = 0 } = schema;
      if (typeof value !== 'number' || !Number.isFinite(value) || value < minimum)
        throw misfit(path, value, `is not a number from ${minimum}`, 'give a finite number');
      break;
    }
    case 'array':
      checkList(value, schema, path);
      break;
    case 'object':
      checkObject(value, schema, path);
  }
}

function checkList(value: unknown, { items, minItems = 0 }: JsonSchema, path: string): void {
  if (!Array.isArray(value)) throw misfit(path, value, 'is not a list', 'write a list');
  if (value.length < minItems) throw misfit(path, value, 'is empty', `give ${minItems} or more`);
  if (items)
    value.forEach((each, i) => {
      checkForm(each, items, `${path}[${i}]`);
    });
}

function checkObject(value: unknown, schema: JsonSchema, path: string): void {
  const { properties = {}, required = [] } = schema;
  if (!isRecord(value)) throw misfit(path, value, 'is not an object', 'write an object');
  for (const key of required)
    if (!Object.hasOwn(value, key))
      throw misfit(path, value, `lacks ${key}`, `it needs ${required.join(', ')}`);
  for (const [key, each] of Object.entries(value)) {
    const own = path === '' ? key : `${path}.${key}`;
    if (!Object.hasOwn(properties, key))
      throw misfit(
        own,
        each,
        'is no key here',
        `the keys are ${Object.keys(properties).join(', ')}`,
      );
    checkForm(each, properties[key], own);
  }
}

/** The form that has the value's kind. */
function formOf(value: unknown, forms: readonly JsonSchema[], path: string): JsonSchema {
  if (!isRecord(value)) throw misfit(path, value, 'is not an object', 'write an object');
  const kindsOf = ({ properties }: JsonSchema): readonly string[] => {
    const kind = properties?.kind;
    return kind?.enum ?? (kind?.const === undefined ? [] : [kind.const]);
  };
  const form = forms.find((each) => kindsOf(each).some((kind) => kind === value.kind));
  if (form) return form;
  const kinds = forms.flatMap(kindsOf).join(', ');
  throw misfit(`${path}.kind`, value.kind, 'is no kind of action', `the kinds are ${kinds}`);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An error about a value that does not fit. */
export function misfit(path: string, value: unknown, message: string, hint: string): Error {
  const shown = JSON.stringify(value) as string | undefined;
  const short =
    shown === undefined ? 'nothing' : shown.length > 60 ? `${shown.slice(0, 57)}…` : shown;
  return scheduleError('FORM', path, `${path || 'the JSON'} (${short}) ${message}`, hint);
}
