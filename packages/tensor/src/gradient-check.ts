// Compares gradients with finite differences. For tests: it runs a computation many times.
import type { Module } from './parameter';
import type { Region } from './region';
import { Tape } from './tape';
import type { Tensor } from './tensor';

/** What {@link checkGradients} looks at. */
export interface GradientCheck {
  /** Memory for the runs. */
  region: Region;
  /** The tensors to vary: inputs, by name. */
  inputs: Readonly<Record<string, Tensor>>;
  /** The module whose parameters are varied as well. */
  module?: Module;
  /** The computation, from the inputs to one tensor. */
  body: (tape: Tape) => Tensor;
  /** Half the step of the central difference (default 0.01). */
  step?: number;
  /** Random directions tried a tensor (default 3). */
  directions?: number;
}

/** One comparison. */
export interface GradientCheckResult {
  /** Which tensor. */
  name: string;
  /** Directional derivative from the tape. */
  analytic: number;
  /** From the central difference. */
  numeric: number;
  /** |analytic − numeric| over the larger of the two and the gradient's norm share. */
  error: number;
}

/**
 * Compares, along random directions, the tape's gradient of Σ c·body (c random, fixed) with central differences.
 * @param check - see {@link GradientCheck}
 * @returns one result a tensor and direction
 */
export function checkGradients(check: GradientCheck): GradientCheckResult[] {
  const { region, inputs, module, body, step = 0.01, directions = 3 } = check;
  let state = 12345;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / 8388608 - 1;
  };
  const forward = new Tape(region);
  let weights = new Float32Array(0);
  const [out] = forward.frame('check', () => [body(forward)] as const);
  weights = Float32Array.from({ length: out.size }, random);
  const objective = (): number => {
    const tape = new Tape(region, { grad: false });
    let sum = 0;
    tape.scoped(() => {
      const values = body(tape).readSync();
      for (let i = 0; i < weights.length; i += 1) sum += (weights[i] ?? 0) * (values[i] ?? 0);
      return [];
    });
    return sum;
  };
  if (module)
    for (const [, parameter] of module.parameters()) region.kernels.fill(parameter.grad, 0);
  const seed = new Tape(region, { grad: false });
  let grads: (Tensor | undefined)[] = [];
  seed.scoped(() => {
    const grad = seed.empty(out.shape);
    (grad.readSync() as Float32Array).set(weights);
    grads = forward.backFrame([out], [grad], Object.values(inputs));
    return [];
  });
  out.block.release();
  const targets: { name: string; data: Tensor; grad: Float32Array; changed: () => void }[] = [];
  Object.entries(inputs).forEach(([name, data], index) => {
    const grad = grads[index];
    const values = grad ? (grad.readSync().slice() as Float32Array) : new Float32Array(data.size);
    targets.push({ name, data, grad: values, changed: () => undefined });
    grad?.block.release();
  });
  for (const [name, parameter] of module?.parameters() ?? [])
    targets.push({
      name,
      data: parameter.data,
      grad: parameter.grad.readSync().slice() as Float32Array,
      changed: () => {
        parameter.version += 1;
      },
    });
  const results: GradientCheckResult[] = [];
  for (const { name, data, grad, changed } of targets)
    for (let round = 0; round < directions; round += 1) {
      const values = data.readSync() as Float32Array;
      const original = values.slice();
      const direction = Float32Array.from({ length: values.length }, random);
      const at = (factor: number): number => {
        for (let i = 0; i < values.length; i += 1)
          values[i] = (original[i] ?? 0) + factor * (direction[i] ?? 0);
        changed();
        return objective();
      };
      const numeric = (at(step) - at(-step)) / (2 * step);
      values.set(original);
      changed();
      let analytic = 0;
      let norm = 0;
      for (let i = 0; i < grad.length; i += 1) {
        analytic += (grad[i] ?? 0) * (direction[i] ?? 0);
        norm += (grad[i] ?? 0) ** 2;
      }
      // A direction may happen to be almost orthogonal to the gradient: compare against the usual size as well.
      const size = Math.max(Math.abs(analytic), Math.abs(numeric), Math.sqrt(norm / 3), 1e-3);
      results.push({ name, analytic, numeric, error: Math.abs(analytic - numeric) / size });
    }
  return results;
}
