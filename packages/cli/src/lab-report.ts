// A lab as people read it: what was settled before, the grid of results, and the verdict.
import {
  type ClaimResult,
  type Lab,
  type LabClaim,
  type LabPlan,
  type LabQuantity,
  type LabRecord,
  type LabRow,
  type LabVerdict,
  labFigure,
} from '@baleen/trainer';

import { table } from './format';
import type { Colors, Formatter } from './io';
import { fact } from './report';

/**
 * The published figure.
 * @param lab - whose
 * @returns the figure and what it is, or the words that stand for it
 */
export function publishedText({
  published,
  quantity,
}: Pick<LabClaim, 'published' | 'quantity'>): string {
  return typeof published === 'string' ? published : figureText(published, quantity);
}

function figureText(value: number, { name, unit }: LabQuantity): string {
  return `${labFigure(value, unit)}, ${name}`;
}

/**
 * What is settled before a lab runs.
 * @param lab - the lab
 * @param plan - its settings and inequality
 * @param colors - of the stream it goes to
 * @returns its lines
 */
export function planLines(lab: Lab, plan: LabPlan, colors: Colors): string[] {
  const settings = table([
    ['seed', String(plan.seed)],
    ...leaves(plan.settings).map(([key, value]) => [key, JSON.stringify(value)]),
  ]);
  return [
    colors.bold(`Lab ${lab.name} · ${plan.budget}`),
    '',
    fact('source', lab.source, colors),
    ...claimsOf(lab).flatMap((claim, index) => [
      fact('claim', claim.claim, colors),
      fact('published', publishedText(claim), colors),
      fact('holds if', (index === 0 ? plan : plan.further?.[index - 1])?.holdsIf ?? '', colors),
    ]),
    ...settings.map((line, index) => fact(index === 0 ? 'settings' : '', line, colors)),
    '',
  ];
}

/** All claims of a lab, its first one first. */
export function claimsOf(lab: Lab): readonly LabClaim[] {
  return [lab, ...(lab.further ?? [])];
}

/** Settings by dotted names, nested objects opened. */
function leaves(settings: object, prefix = ''): [string, unknown][] {
  return Object.entries(settings).flatMap(([key, value]: [string, unknown]) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? leaves(value, `${prefix}${key}.`)
      : [[prefix + key, value] as [string, unknown]],
  );
}

/**
 * The grid of results.
 * @param rows - its lines; columns are those of all of them
 * @param colors - of the stream it goes to
 * @returns a heading and one line a row
 */
export function gridLines(rows: readonly LabRow[], colors: Colors): string[] {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  if (columns.length === 0) return [];
  const numeric = columns.flatMap((column, index) =>
    rows.every((row) => typeof row[column] !== 'string') ? [index] : [],
  );
  const lines = table(
    [columns, ...rows.map((row) => columns.map((column) => cell(row[column])))],
    numeric,
  );
  return lines.map((line, index) => `  ${index === 0 ? colors.dim(line) : line}`);
}

function cell(value: string | number | undefined): string {
  if (typeof value !== 'number') return value ?? '';
  return Number.isInteger(value) ? String(value) : value.toPrecision(4);
}

const sayings: Readonly<Record<LabVerdict, string>> = {
  holds: 'The claim holds here.',
  fails: 'The claim does not hold here.',
  notResolvable: 'Not resolvable with so many pairs of such a spread.',
};

/**
 * How a lab came out.
 * @param lab - the lab
 * @param record - what it has measured
 * @param colors - of the stream it goes to
 * @returns its lines
 */
export function verdictLines(lab: Lab, { result, plan }: LabRecord, colors: Colors): string[] {
  const claims = claimsOf(lab);
  const results = [result, ...(result.further ?? [])];
  const plans = [plan, ...(plan.further ?? [])];
  return claims.flatMap((claim, index) => [
    ...(claims.length > 1 ? [fact('claim', claim.claim, colors)] : []),
    ...claimLines(claim, results[index], plans[index].holdsIf, colors),
    ...(index + 1 < claims.length ? [''] : []),
  ]);
}

function claimLines(
  claim: LabClaim,
  result: ClaimResult,
  holdsIf: string,
  colors: Colors,
): string[] {
  const { verdict, measured, effect, ci95, n, smallestResolvableEffect: least } = result;
  const paint: Record<LabVerdict, Formatter> = {
    holds: colors.green,
    fails: colors.red,
    notResolvable: colors.yellow,
  };
  const { unit } = claim.effect;
  const interval =
    ci95 === null
      ? `n = ${n}`
      : `95 %: ${labFigure(ci95[0], unit)} to ${labFigure(ci95[1], unit)}, n = ${n}`;
  return [
    fact('verdict', `${paint[verdict](verdict)}  ${sayings[verdict]}`, colors),
    fact('published', publishedText(claim), colors),
    fact('measured', figureText(measured, claim.quantity), colors),
    fact('effect', `${labFigure(effect, unit)} (${interval})`, colors),
    fact('holds if', holdsIf, colors),
    ...(least === null
      ? []
      : [fact('resolves', `${labFigure(least, unit)} and more, four times in five`, colors)]),
  ];
}
