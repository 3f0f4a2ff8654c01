// What the page shows, as data, and its place in the address: whoever opens the same address sees the same.
import type { Semantics } from '../engine';
import { type Method, methods } from '../methods/index';
import type { PhaseTimes } from '../phases';
import { publishedProfile } from '../profile';
import { faultOf, fields, phaseRows } from './fields';

/** A row that shows the schedule the page was made with, rather than a method. */
export const ownRow = 'own';

/** What the page shows. */
export interface PageState {
  /** Of each row, a method's name or {@link ownRow}. */
  rows: readonly string[];
  /** Of each field, its number. */
  values: Readonly<Record<string, number | null>>;
  /** Whether times are four numbers or phases. */
  timing: 'four' | 'phases';
  /** How messages hold ranks up. */
  semantics: Semantics;
  /** The moment that is looked at. */
  time: number;
  /** The row and the rank that are looked at. */
  row: number;
  /** See {@link PageState.row}. */
  rank: number;
  /** The part of the time that is shown; null for all. */
  window: readonly [from: number, to: number] | null;
}

/** Rows that the page shows at most. */
export const mostRows = 6;

const method = (name: string): boolean => Object.hasOwn(methods, name);

/** Numbers of a profile, by field. */
export function phaseValues(times: PhaseTimes): Record<string, number> {
  const values: Record<string, number> = { layers: times.layers };
  for (const { part, name, phases } of phaseRows)
    for (const phase of phases)
      values[`${name}-${phase}`] = (times[part] as Readonly<Record<string, number>>)[phase];
  return values;
}

/** What is shown where nothing else is asked for. */
export function standardState(): PageState {
  const values = Object.fromEntries(fields.map(({ name, standard }) => [name, standard]));
  return {
    rows: ['dualpipe', '1f1b'],
    values: { ...values, ...phaseValues(publishedProfile) },
    timing: 'four',
    semantics: 'buffered',
    time: 0,
    row: 0,
    rank: 0,
    window: null,
  };
}

/**
 * Writes a state as the part of an address behind the #.
 * @param state - what is shown
 * @param start - what the page shows without: only what differs is written, and what is shown
 * @returns such as `methods=dualpipe,1f1b&ranks=8&micro-batches=20`
 */
export function writeAddress(state: PageState, start: PageState): string {
  const { rows, values, timing, semantics, time, row, rank, window } = state;
  const entries: [string, string][] = [['methods', rows.join(',')]];
  for (const { name } of fields) {
    const value = values[name];
    if (name === 'ranks' || name === 'micro-batches' || value !== start.values[name])
      entries.push([name, value === null ? '' : String(value)]);
  }
  const add = (name: string, value: string, usual: string): void => {
    if (value !== usual) entries.push([name, value]);
  };
  add('times', timing, start.timing);
  add('semantics', semantics, start.semantics);
  add('row', String(row), '0');
  add('rank', String(rank), '0');
  add('time', String(rounded(time)), '0');
  if (window)
    entries.push(['from', String(rounded(window[0]))], ['to', String(rounded(window[1]))]);
  return entries
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join('&')
    .replaceAll('%2C', ',');
}

/**
 * Reads a state from an address. What is not there, and what cannot be, stays as in `start`.
 * @param address - behind the #
 * @param start - what the page shows without
 * @param own - whether the page has a schedule of its own
 * @returns what to show
 */
export function readAddress(address: string, start: PageState, own: boolean): PageState {
  const entries = new URLSearchParams(address.replace(/^#/, ''));
  const number = (name: string): number | null => {
    const text = entries.get(name);
    return text === null || text === '' || !Number.isFinite(Number(text)) ? null : Number(text);
  };
  const values = { ...start.values };
  for (const field of fields) {
    const text = entries.get(field.name);
    if (text === null) continue;
    const value = text === '' ? null : Number(text);
    if (faultOf(field, value) === '') values[field.name] = value;
  }
  const asked = (entries.get('methods') ?? '').split(',');
  const rows = asked.filter((name) => method(name) || (own && name === ownRow)).slice(0, mostRows);
  const index = (name: 'row' | 'rank', most: number): number => {
    const value = number(name);
    return value !== null && Number.isInteger(value) && value >= 0 && value <= most ? value : 0;
  };
  const [from, to] = [number('from'), number('to')];
  const shown = rows.length > 0 ? rows : start.rows;
  const timing = entries.get('times');
  const semantics = entries.get('semantics');
  return {
    rows: shown,
    values,
    timing: timing === 'four' || timing === 'phases' ? timing : start.timing,
    semantics: semantics === 'buffered' || semantics === 'rendezvous' ? semantics : start.semantics,
    time: Math.max(0, number('time') ?? start.time),
    row: index('row', shown.length - 1),
    rank: index('rank', 1e4),
    window: from !== null && to !== null && from >= 0 && to > from ? [from, to] : null,
  };
}

/** Phases as the simulator takes them. */
export function phasesOf(values: PageState['values']): PhaseTimes {
  const times = Object.fromEntries(
    phaseRows.map(({ part, name, phases }) => [
      part,
      Object.fromEntries(phases.map((phase) => [phase, values[`${name}-${phase}`]])),
    ]),
  );
  return { layers: values.layers, ...times } as unknown as PhaseTimes;
}

/** A number as it stands in a box. */
export function writeNumber(value: number): string {
  return String(rounded(value));
}

/** The name of a method, as people write it. */
export const titles: Readonly<Record<Method, string>> = {
  gpipe: 'GPipe',
  '1f1b': '1F1B',
  interleaved: 'Interleaved 1F1B',
  zb1p: 'ZB1P',
  dualpipe: 'DualPipe',
  dualpipev: 'DualPipeV',
};

/** Enough digits for an address, and for equal moments to stay equal. */
function rounded(time: number): number {
  return Number(time.toPrecision(9));
}
