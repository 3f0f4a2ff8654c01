// How far an approximation is from what it stands for, as labs measure it.
import { signalToNoise } from '@baleen/fp8';

/**
 * The relative Frobenius error.
 * @param exact - values meant
 * @param approximate - values had
 * @returns √(Σ error² / Σ exact²)
 */
export function relativeError(exact: Float32Array, approximate: Float32Array): number {
  return 10 ** (-signalToNoise(exact, approximate) / 20);
}

/**
 * The largest error, of the largest value.
 * @param exact - values meant
 * @param approximate - values had
 * @returns max |error| / max |exact|
 */
export function largestError(exact: Float32Array, approximate: Float32Array): number {
  let [error, size] = [0, 0];
  exact.forEach((value, i) => {
    error = Math.max(error, Math.abs(approximate[i] - value));
    size = Math.max(size, Math.abs(value));
  });
  return error / size;
}

/**
 * The largest relative error, value by value.
 * @param exact - values meant
 * @param approximate - values had
 * @returns max (|error| / |exact|); infinite where something stands for 0
 */
export function largestRelativeError(exact: Float32Array, approximate: Float32Array): number {
  let largest = 0;
  exact.forEach((value, i) => {
    const error = Math.abs(approximate[i] - value);
    if (error > 0) largest = Math.max(largest, error / Math.abs(value));
  });
  return largest;
}
