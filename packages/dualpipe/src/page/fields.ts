// What the page lets one change: each number with its name in the address, its label, and what it may be. The page's markup,
// its state and its messages are all made from this list.

/** A number that can be changed. */
export interface Field {
  /** Its name in the page's address: a flag of `baleen schedule` where there is one. */
  name: string;
  /** Above its box. */
  label: string;
  /** The paper's sign for it. */
  symbol?: string;
  /** Smallest value. */
  least: number;
  /** Largest value that the page takes. */
  most?: number;
  /** Whether it counts something. */
  whole?: boolean;
  /** At the beginning; null for none. */
  standard: number | null;
  /** What an empty box means; without it the box must be filled. */
  empty?: string;
}

/** Ranks of a pipeline that the page draws at most, and micro-batches. */
const mostRanks = 64;
const mostMicroBatches = 1024;

/** Sizes. */
export const sizeFields: readonly Field[] = [
  { name: 'ranks', label: 'Ranks', least: 1, most: mostRanks, whole: true, standard: 8 },
  {
    name: 'micro-batches',
    label: 'Micro-batches',
    least: 1,
    most: mostMicroBatches,
    whole: true,
    standard: 20,
  },
  {
    name: 'stages-per-rank',
    label: 'Stages a rank',
    least: 2,
    most: 16,
    whole: true,
    standard: 2,
  },
];

/** Times of a rank's share of the model. */
export const timeFields: readonly Field[] = [
  { name: 'forward', label: 'Forward', symbol: 'F', least: 0, standard: 1 },
  { name: 'input-grad', label: 'Input gradient', symbol: 'Bᵢ', least: 0, standard: 1 },
  { name: 'weight-grad', label: 'Weight gradient', symbol: 'W', least: 0, standard: 1 },
  {
    name: 'overlap',
    label: 'Overlapped pair',
    symbol: 'F&B',
    least: 0,
    standard: null,
    empty: 'F + Bᵢ + W',
  },
];

/** Phases of a layer, by the part of a computation they belong to. */
export const phaseRows = [
  {
    part: 'forward',
    label: 'Forward',
    name: 'forward',
    phases: ['attention', 'dispatch', 'experts', 'combine'],
  },
  {
    part: 'inputGrad',
    label: 'Input gradient',
    name: 'input-grad',
    phases: ['attention', 'dispatch', 'experts', 'combine'],
  },
  {
    part: 'weightGrad',
    label: 'Weight gradient',
    name: 'weight-grad',
    phases: ['attention', 'experts'],
  },
] as const;

/** Times of phases; at the beginning those of {@link publishedProfile}, which `state.ts` fills in. */
export const phaseFields: readonly Field[] = [
  { name: 'layers', label: 'Layers a rank', least: 1, most: 1000, whole: true, standard: 4 },
  ...phaseRows.flatMap(({ label, name, phases }) =>
    phases.map((phase) => ({
      name: `${name}-${phase}`,
      label: `${label}: ${phase}`,
      least: 0,
      standard: 1,
    })),
  ),
];

/** Messages between ranks. */
export const messageFields: readonly Field[] = [
  { name: 'sending', label: 'Sending takes', least: 0, standard: 0 },
  { name: 'latency', label: 'Arrives after', least: 0, standard: 0 },
];

/** All of them. */
export const fields: readonly Field[] = [
  ...sizeFields,
  ...timeFields,
  ...phaseFields,
  ...messageFields,
];

/**
 * What is wrong with a number, in words.
 * @param field - what it is for
 * @param value - the number; null for an empty box, NaN for what is no number
 * @returns a sentence, or the empty string
 */
export function faultOf(field: Field, value: number | null): string {
  const { least, most = Infinity, whole = false, empty } = field;
  const range = most === Infinity ? `from ${least}` : `from ${least} to ${most}`;
  const wanted = `${whole ? 'a whole number' : 'a number'} ${range}`;
  if (value === null) return empty === undefined ? `Give ${wanted}.` : '';
  if (!Number.isFinite(value) || value < least || value > most)
    return `${Number.isFinite(value) ? `${value} is not ${wanted}` : `Give ${wanted}`}.`;
  return whole && !Number.isInteger(value) ? `${value} is not ${wanted}.` : '';
}

/** A field by its name. */
export function fieldOf(name: string): Field {
  const found = fields.find((field) => field.name === name);
  if (!found) throw new Error(`there is no field ${name}`);
  return found;
}
