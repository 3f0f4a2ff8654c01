// Checks that every kernel call passes before it computes: types and sizes of all views. A wrong size would corrupt
// memory in the addon and give nonsense in the reference.
import type { Kernels } from './kernels';
import { type KernelName, kernelNames, type Signature, signatures, splitCall } from './signatures';
import type { Operand, View } from './storage';

/** Anything with the methods of `Kernels`, by name. */
type Methods = Record<string, (...args: unknown[]) => void>;

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
    if (!method) throw new Error(`kernel ${name} is missing`);
    (wrapped as Methods)[name] = wrap(name, method.bind(kernels));
  }
  return wrapped;
}

/**
 * Checks one call.
 * @param name - the kernel
 * @param args - what it was called with
 */
export function checkCall(name: KernelName, args: readonly unknown[]): void {
  const signature: Signature = signatures[name];
  const { operands, sizes } = splitCall(signature, args);
  const needs = signature.needs(sizes, operands);
  for (let i = 0; i < needs.length; i += 1) {
    const need = needs[i];
    const operand = operands[i];
    if (!need) continue;
    const [argument, size, ...dtypes] = need;
    if (operand === null || operand === undefined) continue;
    const view = viewOfOperand(operand);
    if (dtypes.length > 0 && !dtypes.includes(view.dtype))
      throw mismatch(name, argument, `is ${view.dtype}, expected ${dtypes.join(' or ')}`);
    if (size !== null && view.size !== size)
      throw mismatch(name, argument, `holds ${view.size} elements, expected ${size}`);
    if (view.byteOffset < 0 || view.storage.byteLength - view.byteOffset < byteLength(view))
      throw mismatch(name, argument, 'reaches beyond its storage');
  }
}

function viewOfOperand(operand: Operand): View {
  return 'codes' in operand ? operand.codes : operand;
}

const bytes = { f32: 4, bf16: 2, e4m3: 1, i32: 4 } as const;

/** Bytes a view spans.
 * @param view - the view
 * @returns size × element size
 */
export function byteLength(view: View): number {
  return view.size * bytes[view.dtype];
}

function mismatch(kernel: string, argument: string, what: string): Error {
  return Object.assign(new Error(`${kernel}: ${argument} ${what}`), {
    code: 'ERR_BALEEN_KERNELS_SHAPE',
    path: `${kernel}.${argument}`,
    hint: 'compare the sizes given with the lengths of the arrays',
  });
}
