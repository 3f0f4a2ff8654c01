// An audit as people read it: a row a weight or operand, worst first, then what is wrong.
import { type AuditFinding, signalToNoiseOf, type WeightAudit } from '@baleen/model';

import type { OperandAudit } from '@baleen/trainer';

import { table, whole, wrap } from './format';
import type { Colors } from './io';
import { fact } from './report';

/** One line of the table. */
export interface AuditRow {
  /** What it is of. */
  name: string;
  /** Decibels; NaN where there is no signal. */
  signalToNoise: number;
  /** Values, or codes. */
  values: number;
  /** Codes of zero; null where they were not counted. */
  zeros: number | null;
  /** Values other than zero that became zero; null where codes do not tell. */
  underflowed: number | null;
  /** Codes below the smallest normal value, which have fewer bits; null where they were not counted. */
  subnormals: number | null;
  /** Values beyond the format; null where codes do not tell. */
  saturated: number | null;
  /** Scales. */
  scales: { smallest: number; median: number; largest: number };
  /** Something is wrong with it. */
  faulty: boolean;
}

const scaleHeadings = ['scales: least', 'median', 'largest', 'spread'];

/** Rows that are shown where not all are asked for. */
const shownRows = 16;

/**
 * Weights as rows, the experts of a layer in one: their worst ratio, all their counts, the range of their scales.
 * @param weights - what was audited
 * @param findings - what is wrong
 * @returns rows in the weights' order
 */
export function weightRows(
  weights: readonly WeightAudit[],
  findings: readonly AuditFinding[],
): AuditRow[] {
  const faulty = new Set(findings.map(({ tensor }) => tensor));
  const groups = new Map<string, WeightAudit[]>();
  for (const weight of weights) {
    const name = weight.name
      .replace(/^model\./, '')
      .replace(/\.weight$/, '')
      .replace(/\.experts\.\d+\./, '.experts.*.');
    const group = groups.get(name);
    if (group) group.push(weight);
    else groups.set(name, [weight]);
  }
  return [...groups].map(([name, group]) => {
    const sum = (of: (weight: WeightAudit) => number): number =>
      group.reduce((total, weight) => total + of(weight), 0);
    const medians = group.map(({ scales }) => scales.median).sort((a, b) => a - b);
    const known = group.every(({ errors }) => errors !== null);
    return {
      name: group.length === 1 ? name : `${name} ×${group.length}`,
      signalToNoise: group.map(signalToNoiseOf).reduce(worse),
      values: sum(({ codes }) => codes.values),
      zeros: sum(({ codes }) => codes.zeros),
      subnormals: sum(({ codes }) => codes.subnormals),
      underflowed: known ? sum(({ errors }) => errors?.underflowed ?? 0) : null,
      saturated: known ? sum(({ errors }) => errors?.saturated ?? 0) : null,
      scales: {
        smallest: Math.min(...group.map(({ scales }) => scales.smallest)),
        median: medians[(medians.length - 1) >> 1],
        largest: Math.max(...group.map(({ scales }) => scales.largest)),
      },
      faulty: group.some((weight) => faulty.has(weight.name)),
    };
  });
}

/**
 * Operands as rows.
 * @param operands - what was audited
 * @param findings - what is wrong
 * @returns rows in the operands' order
 */
export function operandRows(
  operands: readonly OperandAudit[],
  findings: readonly AuditFinding[],
): AuditRow[] {
  const faulty = new Set(findings.map(({ tensor }) => tensor));
  return operands.map(({ layer, operand, format, underflowed, ...rest }) => ({
    ...rest,
    name: `${layer.replace(/\.weight$/, '')} ${operand}${format === 'e4m3' ? '' : ` (${format})`}`,
    zeros: null,
    underflowed,
    subnormals: null,
    faulty: faulty.has(`${layer} ${operand}`),
  }));
}

/** The lower ratio; NaN, a matrix of zeros, is no worse than any. */
function worse(a: number, b: number): number {
  if (Number.isNaN(a)) return b;
  return Number.isNaN(b) ? a : Math.min(a, b);
}

/**
 * The table.
 * @param rows - in the model's order
 * @param options - `all`: every row, in that order, not the worst first; `what`: heading of the names
 * @param colors - of the stream it goes to
 * @returns its lines
 */
export function auditLines(
  rows: readonly AuditRow[],
  options: { all: boolean; what: string },
  colors: Colors,
): string[] {
  const { all, what } = options;
  const rank = ({ signalToNoise }: AuditRow): number =>
    Number.isNaN(signalToNoise) ? Infinity : signalToNoise;
  const worst = [...rows].sort((a, b) => Number(b.faulty) - Number(a.faulty) || rank(a) - rank(b));
  const kept = all ? rows : worst.slice(0, shownRows);
  const counts = ['zero %', 'underflow %', 'subnormal %', 'saturated'];
  const body = kept.map((row) => cells(row, row === worst[0]));
  // A column that nothing stands in is left out.
  const counted = (index: number): boolean =>
    index < 2 || index > 1 + counts.length || body.some((line) => line[index] !== nothing);
  const lines = table(
    [[what, 'SQNR dB', ...counts, ...scaleHeadings, ''], ...body].map((line) =>
      line.filter((_, index) => counted(index)),
    ),
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  const hidden = worst.slice(kept.length);
  const faulty = hidden.filter((row) => row.faulty).length;
  const among = faulty > 0 ? `, ${whole(faulty)} of them with findings` : '';
  return [
    ...lines.map((line, index) => {
      if (index === 0) return `  ${colors.dim(line)}`;
      return `  ${kept[index - 1].faulty ? colors.red(line) : line}`;
    }),
    ...(hidden.length > 0
      ? [colors.dim(`  and ${whole(hidden.length)} more${among}: --all shows them`)]
      : []),
  ];
}

/** What stands in a place without a figure. */
const nothing = '–';

function cells(row: AuditRow, isWorst: boolean): string[] {
  const { name, signalToNoise, values, zeros, underflowed, subnormals, saturated } = row;
  const { scales, faulty } = row;
  const share = (count: number | null): string =>
    count === null ? nothing : ((100 * count) / values).toFixed(2);
  return [
    name,
    Number.isNaN(signalToNoise) ? nothing : signalToNoise.toFixed(1),
    share(zeros),
    share(underflowed),
    share(subnormals),
    saturated === null ? nothing : whole(saturated),
    scale(scales.smallest),
    scale(scales.median),
    scale(scales.largest),
    scales.largest > 0 ? `2^${Math.log2(scales.largest / scales.smallest).toFixed(1)}` : nothing,
    faulty ? 'finding' : isWorst ? 'worst' : '',
  ];
}

function scale(value: number): string {
  return value > 0 && value < Infinity ? value.toExponential(1) : nothing;
}

/** Findings of one code that are shown where not all are asked for. */
const shownFindings = 4;

/**
 * What is wrong, or that nothing is.
 * @param findings - what was found
 * @param options - `all`: every finding, not the first of each kind; `width`: columns
 * @param colors - of the stream it goes to
 * @returns their lines
 */
export function findingLines(
  findings: readonly AuditFinding[],
  options: { all: boolean; width: number },
  colors: Colors,
): string[] {
  const { bold, cyan, dim, green, red } = colors;
  if (findings.length === 0)
    return [
      fact(
        'findings',
        `${green('none')}: nothing is wrong, and no ratio is below that of its format's normal values`,
        colors,
      ),
    ];
  const byCode = new Map<string, AuditFinding[]>();
  for (const finding of findings)
    byCode.set(finding.code, [...(byCode.get(finding.code) ?? []), finding]);
  const lines = [
    `  ${bold(red(`${whole(findings.length)} finding${findings.length === 1 ? '' : 's'}`))}`,
  ];
  for (const [code, list] of byCode) {
    lines.push('', `  ${cyan(code)}`);
    const kept = options.all ? list : list.slice(0, shownFindings);
    for (const { message, hint } of kept) {
      const [first, ...rest] = wrap(message, options.width - 4);
      lines.push(`    ${first}`, ...rest.map((line) => `    ${line}`));
      lines.push(...wrap(hint, options.width - 6).map((line) => dim(`      ${line}`)));
    }
    if (kept.length < list.length)
      lines.push(dim(`    and ${whole(list.length - kept.length)} more: --all shows them`));
  }
  return lines;
}
