// What describes one kernel's call: its views and their sizes, its switches, its cost. `signatures.ts` lists them all;
// checks, the null backend, costs and the native binding read that table.
import { bytesPerElement, type DType, isScaled, type Operand, type View } from './storage';

/** Sizes as the kernels take them: numbers, switches, and now and then a view. */
export type Sizes = Readonly<Record<string, number | boolean | View | undefined>>;

/** The operands of a call, in order. */
export type Operands = readonly (Operand | null | undefined)[];

/** What one view must be. */
export interface Need {
  /** The argument's name. */
  readonly name: string;
  /** What was given. */
  readonly operand: Operand | null | undefined;
  /** Elements it must hold; null for any number. */
  readonly size: number | null;
  /** Types it may have; none for any. */
  readonly dtypes: readonly DType[];
  /** May hold more than `size`. */
  readonly orMore: boolean;
  /** May be absent. */
  readonly optional: boolean;
  /** The matrix that a scaled operand stands for. */
  readonly matrix: MatrixNeed | undefined;
}

/** What a scaled operand's blocks must be. */
export interface MatrixNeed {
  /** Rows of the codes, of one matrix if stacked. */
  readonly rows: number;
  /** Columns of the codes. */
  readonly cols: number;
  /** Matrices stacked. */
  readonly stack?: number;
  /** The axis that products sum along: blocks span 128 there, and 1 or 128 across. Absent where nothing is summed. */
  readonly along?: 'rows' | 'cols';
  /** What blocks span across `along`, if only one width serves. */
  readonly across?: number;
  /** Row groups at whose borders blocks of 128 rows start anew. */
  readonly groups?: number;
}

/** One kernel's signature. */
export interface Signature {
  /** Operands in order: `v` a view (or null), `o` a plain or scaled operand. */
  readonly args: string;
  /** What happens to each: `r` read, `w` written, `u` read and written. `w` means `u` where the call accumulates. */
  readonly traffic: string;
  /** Keys of the sizes, in the order the addon reads them; `@` marks a view. */
  readonly keys: readonly string[];
  /** What every view must be. */
  readonly needs: (sizes: Sizes, operands: Operands) => readonly Need[];
  /** What is wrong with the sizes themselves, if anything. */
  readonly fault?: (sizes: Sizes, operands: Operands) => string | false;
  /** Floating-point operations of its products, and the unit they run on. */
  readonly flops?: (sizes: Sizes, operands: Operands) => { flops: number; unit: 'fp32' | 'bf16' };
  /** Bytes read and written, where that is not every view once. */
  readonly bytes?: (sizes: Sizes, operands: Operands) => number;
}

/** A size as a number; absent ones are 0. */
export function n(value: Sizes[string]): number {
  return typeof value === 'number' ? value : 0;
}

/** The view that holds an operand's elements. */
export function elements(operand: Operand): View {
  return isScaled(operand) ? operand.codes : operand;
}

/** Elements of an operand; 0 if absent. */
export function sizeOf(operand: Operand | null | undefined): number {
  return operand ? elements(operand).size : 0;
}

/** Type of an operand's elements; FP32 if absent. */
export function dtypeOf(operand: Operand | null | undefined): DType {
  return operand ? elements(operand).dtype : 'f32';
}

/** Bytes of one element of an operand. */
export function elementBytes(operand: Operand | null | undefined): number {
  return bytesPerElement[dtypeOf(operand)];
}

/** The unit an operand's products run on: FP8 codes are multiplied as BF16. */
export function unitOf(operand: Operand | null | undefined): 'fp32' | 'bf16' {
  return dtypeOf(operand) === 'f32' ? 'fp32' : 'bf16';
}

/** Types whose elements have bytes of their own. */
export const wholeBytes: readonly DType[] = ['f32', 'bf16', 'e4m3', 'e5m2', 'i32'];
/** The types of plain matrices. */
export const plain: readonly DType[] = ['f32', 'bf16'];
/** Codes that products take. */
export const fp8: readonly DType[] = ['e4m3', 'e5m2'];
const anyOperand: readonly DType[] = [...plain, ...fp8];
const onlyF32: readonly DType[] = ['f32'];
const onlyI32: readonly DType[] = ['i32'];

/** Every need has all keys in one order, so that checks, which every call goes through, meet objects of one shape. */
function need(
  name: string,
  operand: Operand | null | undefined,
  size: number | null,
  dtypes: readonly DType[],
  matrix?: MatrixNeed,
): Need {
  return { name, operand, size, dtypes, matrix, orMore: false, optional: false };
}

/** A view of exactly `size` elements of one of these types (FP32 if none is named). */
export function view(
  name: string,
  operand: Operand | null | undefined,
  size: number | null,
  dtypes: readonly DType[] = onlyF32,
): Need {
  return need(name, operand, size, dtypes);
}

/** Exactly `size` 32-bit integers. */
export function integers(
  name: string,
  operand: Operand | null | undefined,
  size: number | null,
): Need {
  return need(name, operand, size, onlyI32);
}

/** What may hold more elements. */
export function orMore(given: Need): Need {
  return { ...given, orMore: true };
}

/** What may be absent. */
export function optional(given: Need): Need {
  return { ...given, optional: true };
}

/** A matrix operand: plain, or scaled in blocks. */
export function operand(
  name: string,
  given: Operand | null | undefined,
  matrix: MatrixNeed,
  dtypes: readonly DType[] = anyOperand,
): Need {
  const size = (matrix.stack ?? 1) * matrix.rows * matrix.cols;
  return need(name, given, size, dtypes, matrix);
}

/** FP32 views, all as long as the first. */
export function alike(...names: string[]): Signature['needs'] {
  return (_, operands) =>
    names.map((name, i) => view(name, operands[i], i === 0 ? null : sizeOf(operands[0])));
}

/** One past the last element of a strided matrix; 0 if it is empty. */
export function reach(offset: number, stride: number, rows: number, inner: number): number {
  return rows === 0 || inner === 0 ? 0 : offset + (rows - 1) * stride + inner;
}

/**
 * Rows of scales that blocks of 128 rows need when they start anew at the borders of row groups, whatever the borders are:
 * every group may end with a ragged block.
 * @param rows - rows of the matrix
 * @param groups - row groups
 * @returns an upper bound of Σ ⌈rows of g / 128⌉ that holds for any grouping
 */
export function groupedScaleRows(rows: number, groups: number): number {
  return Math.min(rows, Math.floor(rows / 128) + groups);
}

/** A call's operands, its sizes (with `linearCrossEntropy`'s gradient merged in) and the trailing number, if any.
 * @param signature - the kernel's
 * @param args - what it was called with
 * @returns the parts
 */
export function splitCall(
  signature: Signature,
  args: readonly unknown[],
): { operands: Operands; sizes: Sizes; value: number } {
  const count = signature.args.length;
  const operands = args.slice(0, count) as Operands;
  let sizes: Sizes | undefined;
  let value = 0;
  for (let i = count; i < args.length; i += 1) {
    const rest = args[i];
    if (typeof rest === 'number') value = rest;
    else if (rest) sizes = sizes ? { ...sizes, ...(rest as Sizes) } : (rest as Sizes);
  }
  return { operands, sizes: sizes ?? noSizes, value };
}

const noSizes: Sizes = {};
