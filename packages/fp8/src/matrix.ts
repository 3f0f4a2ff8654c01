// A quantised matrix on typed arrays: codes in a format, one scale a block.
import {
  type BlockSizes,
  type CodesOf,
  emptyCodes,
  type FormatName,
  type Fp8Type,
  formats,
  groupedScaleRows,
  isFp8,
  type ScaledView,
  type SizeChecks,
  sizeChecks,
  viewOf,
} from '@baleen/kernels';

const checks: SizeChecks = sizeChecks('ERR_BALEEN_FP8_SHAPE');
/** See `SizeChecks`. */
export const refuse: SizeChecks['refuse'] = checks.refuse;
/** See `SizeChecks`. */
export const checkLength: SizeChecks['length'] = checks.length;

/** Refuses an option's value. */
export function refuseOption(path: string, value: unknown, hint: string): never {
  const message = `${path} is ${String(value)}`;
  throw Object.assign(new Error(message), { code: 'ERR_BALEEN_FP8_OPTION', path, hint });
}

/** Refuses an option's value that is none of those it may be. */
export function checkOneOf(path: string, value: unknown, allowed: readonly unknown[]): void {
  if (!allowed.includes(value)) refuseOption(path, value, `name one of ${allowed.join(', ')}`);
}

/** Formats that a matrix's values may have. */
export type ElementFormat = Exclude<FormatName, 'e8m0'>;

const elementFormats = Object.keys(formats).filter((name) => name !== 'e8m0');

/**
 * What shares a scale. `1x128`, `128x1` and `128x128` are V3's (§3.3.2): activations, their transpose, weights. `row` is
 * a scale for each row (a token, or an output channel), `tensor` one for the whole matrix.
 */
export type BlockShape = '1x128' | '128x1' | '128x128' | 'row' | 'tensor';

const blockShapes: readonly BlockShape[] = ['1x128', '128x1', '128x128', 'row', 'tensor'];

/** Refuses formats and block shapes that there are not. */
export function checkForm({ format, block }: { format: string; block: string }): void {
  checkOneOf('format', format, elementFormats);
  checkOneOf('block', block, blockShapes);
}

/** Sizes of a matrix, or of several that lie in one. */
export interface MatrixSizes {
  /** Rows; of one matrix where several are stacked. */
  rows: number;
  /** Columns. */
  cols: number;
  /** Matrices of `rows` rows on top of each other (default 1), such as the weights of experts. */
  stack?: number;
  /**
   * Row groups, such as the tokens of each expert: their first rows, and the end of the last. Blocks of 128×1, which
   * would cross their borders, start anew at each.
   */
  offsets?: Int32Array;
}

/** A quantised matrix: element (r, c) is the value of its code times the scale of its block. */
export interface QuantizedMatrix<F extends ElementFormat = ElementFormat> extends MatrixSizes {
  /** The codes' format. */
  format: F;
  /** Codes [stack, rows, cols], row-major. */
  codes: CodesOf<F>;
  /**
   * FP32 multipliers [stack, ⌈rows / block rows⌉, ⌈cols / block columns⌉]. With row groups, scale rows of each group
   * follow those of the one before, and there is room for the most that the number of groups can need.
   */
  scales: Float32Array;
  /** What shares a scale. */
  block: BlockShape;
}

/** Rows and columns of a block. */
export function blockOf(x: {
  block: BlockShape;
  rows: number;
  cols: number;
}): [rows: number, cols: number] {
  const { rows, cols } = x;
  switch (x.block) {
    case '1x128':
      return [1, 128];
    case '128x1':
      return [128, 1];
    case '128x128':
      return [128, 128];
    case 'row':
      return [1, Math.max(1, cols)];
    case 'tensor':
      return [Math.max(1, rows), Math.max(1, cols)];
  }
}

/** Sizes as the arithmetic of blocks takes them. */
export function blockSizes(x: MatrixSizes & { block: BlockShape }): BlockSizes {
  const { rows, cols, stack, offsets } = x;
  const [blockRows, blockCols] = blockOf(x);
  return {
    rows,
    cols,
    blockRows,
    blockCols,
    ...(stack !== undefined && { stack }),
    ...(offsets && { borders: offsets }),
  };
}

/** Codes and scales as kernels take them. */
export function scaledView(x: QuantizedMatrix<Fp8Type>): ScaledView {
  const [blockRows, blockCols] = blockOf(x);
  const codes = { ...viewOf(x.codes), dtype: x.format };
  return { codes, scales: viewOf(x.scales), blockRows, blockCols };
}

/** Whether codes are what kernels compute with: E4M3 or E5M2. */
export function inFp8(x: QuantizedMatrix): x is QuantizedMatrix<Fp8Type> {
  return isFp8(x.format);
}

/** Whether one kernel call takes it: FP8, and one matrix whose blocks start anew nowhere. */
export function isPlainFp8(x: QuantizedMatrix): x is QuantizedMatrix<Fp8Type> {
  return inFp8(x) && (x.stack ?? 1) === 1 && !x.offsets;
}

/** Scales that a matrix needs. */
function scaleCount(x: MatrixSizes & { block: BlockShape }): number {
  const { rows, cols, stack = 1, offsets } = x;
  const [blockRows, blockCols] = blockOf(x);
  const scaleRows = offsets
    ? groupedScaleRows(rows, offsets.length - 1)
    : Math.ceil(rows / blockRows);
  return stack * scaleRows * Math.ceil(cols / blockCols);
}

/** Rows first … last − 1 of a matrix as a matrix of its own, under its scales from … to − 1. */
function part<F extends ElementFormat>(
  { format, block, cols, codes, scales }: QuantizedMatrix<F>,
  [first, last]: readonly [number, number],
  [from, to]: readonly [number, number],
): QuantizedMatrix<F> {
  return {
    format,
    block,
    rows: last - first,
    cols,
    codes: codes.subarray(first * cols, last * cols) as CodesOf<F>,
    scales: scales.subarray(from, to),
  };
}

/** Matrix g of a stack, or row group g, as a matrix of its own; a plain one as it is. */
export function groupOf<F extends ElementFormat>(
  x: QuantizedMatrix<F>,
  g: number,
): QuantizedMatrix<F> {
  const { rows, cols, stack = 1, offsets, scales } = x;
  if (offsets) {
    const blocksOf = (group: number): number =>
      Math.ceil((offsets[group + 1] - offsets[group]) / 128);
    let scaleRow = 0;
    for (let h = 0; h < g; h += 1) scaleRow += blocksOf(h);
    return part(
      x,
      [offsets[g], offsets[g + 1]],
      [scaleRow * cols, (scaleRow + blocksOf(g)) * cols],
    );
  }
  if (stack === 1) return x;
  const count = scales.length / stack;
  return part(x, [g * rows, (g + 1) * rows], [g * count, (g + 1) * count]);
}

/** Rows first … last − 1 of a matrix whose blocks no border between rows cuts. */
export function rowsOf(x: QuantizedMatrix, first: number, last: number): QuantizedMatrix {
  const scaleCols = Math.ceil(x.cols / blockOf(x)[1]);
  return part(
    x,
    [first, last],
    x.block === 'tensor' ? [0, x.scales.length] : [first * scaleCols, last * scaleCols],
  );
}

/** The matrix that a result goes to: the one given, if it is what is asked for, or a new one. */
export function matrixFor<F extends ElementFormat>(
  sizes: MatrixSizes,
  options: { format?: F; block?: BlockShape; out?: QuantizedMatrix<F> },
): QuantizedMatrix<F> {
  const { rows, cols, stack = 1, offsets } = sizes;
  const { out } = options;
  const { format = out?.format ?? ('e4m3' as F), block = out?.block ?? '1x128' } = options;
  checkForm({ format, block });
  checkSizes({ ...sizes, block });
  if (!out)
    return {
      ...sizes,
      format,
      codes: emptyCodes(format, stack * rows * cols),
      scales: new Float32Array(scaleCount({ ...sizes, block })),
      block,
    };
  const asked = { format, block, rows, cols, stack };
  const given = { ...out, stack: out.stack ?? 1 };
  for (const key of ['format', 'block', 'rows', 'cols', 'stack'] as const)
    if (given[key] !== asked[key])
      refuse(
        `out.${key}`,
        `out.${key} is ${given[key]}, expected ${asked[key]}`,
        'give a matrix of the format, block and sizes asked for',
      );
  // The borders are part of the result.
  if (offsets) out.offsets = offsets;
  else delete out.offsets;
  checkMatrix('out', out);
  return out;
}

/** Refuses sizes that cannot be, and borders that are not those of the rows: kernels do not look at values. */
function checkSizes(x: MatrixSizes & { block: BlockShape }): void {
  const { rows, cols, stack = 1, offsets, block } = x;
  checks.whole({ rows, cols }, 0);
  checks.whole({ stack });
  if (!offsets) return;
  if (block !== '128x1')
    refuse('offsets', `offsets with blocks of ${block}`, 'only blocks of 128x1 take row groups');
  if (stack !== 1)
    refuse('stack', `a stack of ${stack} with offsets`, 'a stack has no row groups: leave one out');
  checkOffsets(offsets, rows);
}

/** Refuses borders of row groups that do not divide `rows` rows. */
export function checkOffsets(offsets: Int32Array, rows: number): void {
  const ordered = offsets.every((first, g) => g === 0 || first >= offsets[g - 1]);
  if (offsets.length < 2 || offsets[0] !== 0 || offsets[offsets.length - 1] !== rows || !ordered)
    refuse(
      'offsets',
      `offsets (${offsets.join(' ')}) do not divide ${rows} rows`,
      'give the first row of each group in order, and the number of rows at the end',
    );
}

/** Refuses codes and scales of other lengths than the matrix's sizes. */
export function checkMatrix(path: string, x: QuantizedMatrix): void {
  const { rows, cols, stack = 1 } = x;
  checkSizes(x);
  checkLength(`${path}.codes`, x.codes, { stack, rows, cols });
  const scales = scaleCount(x);
  if (x.offsets ? x.scales.length < scales : x.scales.length !== scales)
    refuse(
      `${path}.scales`,
      `${path}.scales holds ${x.scales.length} values, expected ${x.offsets ? 'at least ' : ''}${scales}`,
      `one scale for each block of ${x.block}`,
    );
}
