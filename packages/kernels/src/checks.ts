// Checks that every kernel call passes before it computes: types and sizes of all views, and that their memory is there. A
// wrong size would corrupt memory in the addon and give nonsense in the reference. Values (ids, offsets, indices) are not
// looked at: on a device they cannot be.
import type { Kernels } from './kernels';
import {
  groupedScaleRows,
  type MatrixNeed,
  type Need,
  type Operands,
  type Sizes,
  splitCall,
} from './signature';
import { type KernelName, kernelNames, signatures } from './signatures';
import {
  byteSize,
  bytesPerElement,
  type CpuStorage,
  isFp8,
  isScaled,
  type ScaledView,
  type View,
} from './storage';

/** Anything with the methods of `Kernels`, by name. */
type Methods = Record<string, ((...args: unknown[]) => void) | undefined>;

/**
 * Wraps kernels so that each call is checked first.
 * @param kernels - an implementation
 * @returns the same, checked
 */
export function checked(kernels: Kernels): Kernels {
  return wrapKernels(kernels, (name, call) => (...args) => {
    checkCall(name, args);
    call(...args);
  });
}

/**
 * Wraps every kernel of an implementation; everything else passes through.
 * @param kernels - an implementation
 * @param wrap - makes the wrapper of one kernel
 * @returns the wrapped implementation
 */
export function wrapKernels(
  kernels: Kernels,
  wrap: (name: KernelName, call: (...args: unknown[]) => void) => (...args: unknown[]) => void,
): Kernels {
  const wrapped = Object.create(kernels) as Kernels & Methods;
  for (const name of kernelNames) {
    const method = (kernels as unknown as Methods)[name];
    if (!method)
      throw Object.assign(new Error(`the implementation has no kernel ${name}`), {
        code: 'ERR_BALEEN_KERNELS_MISSING',
        hint: 'an implementation has every kernel of `Kernels`',
      });
    (wrapped as Methods)[name] = wrap(name, method.bind(kernels));
  }
  // Calls made again from a recording would pass by their wrappers.
  Object.defineProperty(wrapped, 'record', { value: undefined });
  return wrapped;
}

/**
 * Checks one call.
 * @param name - the kernel
 * @param args - what it was called with
 * @throws ERR_BALEEN_KERNELS_SHAPE, naming kernel and argument, with what was expected and what was given;
 *   ERR_BALEEN_KERNELS_DETACHED where a view's buffer was transferred or shrank
 */
export function checkCall(name: KernelName, args: readonly unknown[]): void {
  const { operands, sizes } = splitCall(signatures[name], args);
  checkOperands(name, operands, sizes);
}

/**
 * Checks a call already taken apart.
 * @param name - the kernel
 * @param operands - its operands
 * @param sizes - its sizes
 */
export function checkOperands(name: KernelName, operands: Operands, sizes: Sizes): void {
  const signature = signatures[name];
  const fault = signature.fault?.(sizes, operands);
  if (fault) throw shapeError(name, `${name}: ${fault}`);
  for (const need of signature.needs(sizes, operands)) checkNeed(name, need);
}

function checkNeed(kernel: string, need: Need): void {
  const { operand, size, dtypes, matrix } = need;
  if (!operand) {
    if (need.optional) return;
    throw mismatch(kernel, need.name, 'is missing');
  }
  const scaled = isScaled(operand);
  const view = scaled ? operand.codes : operand;
  const { dtype, size: given } = view;
  if (dtypes.length > 0 && !dtypes.includes(dtype))
    throw mismatch(kernel, need.name, `is ${dtype}, expected ${dtypes.join(' or ')}`);
  if (size !== null && (need.orMore ? !(given >= size) : given !== size))
    throw mismatch(
      kernel,
      need.name,
      `holds ${given} elements, expected ${need.orMore ? 'at least ' : ''}${size}`,
    );
  checkRange(kernel, need.name, view);
  if (scaled && !matrix) throw mismatch(kernel, need.name, 'has scales, expected a plain view');
  if (!matrix) return;
  const isCode = isFp8(dtype) || dtype === 'e5m6';
  if (scaled !== isCode)
    throw mismatch(
      kernel,
      need.name,
      scaled ? `has scales on ${dtype} codes` : `is ${dtype} without scales`,
    );
  if (scaled) checkScales(kernel, need.name, operand, matrix);
}

function checkRange(
  kernel: string,
  argument: string,
  { storage, byteOffset, dtype, size }: View,
): void {
  // Packed elements begin with any byte.
  const unit = dtype === 'e5m6' ? 1 : bytesPerElement[dtype];
  const end = byteOffset + byteSize(dtype, size);
  if (byteOffset % unit !== 0)
    throw mismatch(kernel, argument, `starts at byte ${byteOffset}, no multiple of ${unit}`);
  if (byteOffset < 0 || end > storage.byteLength)
    throw mismatch(
      kernel,
      argument,
      `spans bytes ${byteOffset} to ${end} of a storage of ${storage.byteLength}`,
    );
  // A storage's length was read when it was made; its buffer can go to another owner, or shrink.
  if (storage.backend !== 'cpu') return;
  const { byteLength: left } = (storage as CpuStorage).buffer;
  if (end > left)
    throw detachedError(
      `${kernel}.${argument}`,
      `${kernel}: ${argument} spans bytes ${byteOffset} to ${end} of a buffer that has ${left} left of its ${storage.byteLength}`,
      'make the view',
    );
}

/**
 * What is said where a buffer has fewer bytes than when its length was noted.
 * @param path - what names the buffer
 * @param message - the same in words
 * @param remedy - what is to be done anew
 * @returns the error
 */
export function detachedError(path: string, message: string, remedy: string): Error {
  return Object.assign(new Error(message), {
    code: 'ERR_BALEEN_KERNELS_DETACHED',
    path,
    hint: `${remedy} after the buffer was transferred or resized, on the memory that it is then`,
  });
}

function checkScales(kernel: string, argument: string, x: ScaledView, matrix: MatrixNeed): void {
  const { scales, blockRows, blockCols } = x;
  const { rows, cols, stack = 1, along, across, groups } = matrix;
  const span = `${argument} in blocks of ${blockRows}×${blockCols}`;
  if (scales.dtype !== 'f32')
    throw mismatch(kernel, `${argument}.scales`, `is ${scales.dtype}, expected f32`);
  if (!(blockRows >= 1 && blockCols >= 1)) throw mismatch(kernel, span, 'has empty blocks');
  if (along) {
    const [inner, outer] = along === 'rows' ? [blockRows, blockCols] : [blockCols, blockRows];
    const widths = across === undefined ? [1, 128] : [across];
    if (inner !== 128 || !widths.includes(outer))
      throw mismatch(
        kernel,
        span,
        `must span 128 along its ${along}, which the product sums over, and ${widths.join(' or ')} across`,
      );
  } else if (groups !== undefined && (blockRows !== 128 || ![1, 128].includes(blockCols)))
    throw mismatch(
      kernel,
      span,
      'must have blocks of 128×1 or 128×128, so that they end with their row group',
    );
  const grouped = groups !== undefined && blockRows === 128;
  const scaleRows = grouped ? groupedScaleRows(rows, groups) : Math.ceil(rows / blockRows);
  const expected = stack * scaleRows * Math.ceil(cols / blockCols);
  // Row groups need a number of scales that only their borders tell; there is room for the worst of them.
  if (grouped ? scales.size < expected : scales.size !== expected)
    throw mismatch(
      kernel,
      `${argument}.scales`,
      `holds ${scales.size} elements, expected ${grouped ? 'at least ' : ''}${expected} for ${stack * rows} × ${cols} in blocks of ${blockRows}×${blockCols}`,
    );
  checkRange(kernel, `${argument}.scales`, scales);
}

/** Bytes a view spans.
 * @param view - the view
 * @returns its elements' bytes
 */
export function byteLength(view: View): number {
  return byteSize(view.dtype, view.size);
}

function mismatch(kernel: string, argument: string, what: string): Error {
  return shapeError(`${kernel}.${argument}`, `${kernel}: ${argument} ${what}`);
}

function shapeError(path: string, message: string): Error {
  return Object.assign(new Error(message), {
    code: 'ERR_BALEEN_KERNELS_SHAPE',
    path,
    hint: 'compare the sizes given with the lengths of the arrays',
  });
}
