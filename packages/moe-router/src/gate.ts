// From logits to scores, and back: the sigmoid of V3 (§2.1.2) and the softmax of V2 (arXiv 2405.04434, §2.2.1).
import type { Kernels, View } from '@baleen/kernels';

/** How logits become scores: each for itself, or as shares of one. */
export type Gate = 'sigmoid' | 'softmax';

/** Their names. */
export const gates: readonly Gate[] = ['sigmoid', 'softmax'];

/**
 * Scores of logits.
 * @param kernels - the backend
 * @param gate - how
 * @param scores - [rows, cols], replaced; may be the logits
 * @param logits - [rows, cols]
 * @param sizes - tokens and experts
 */
export function scoreLogits(
  kernels: Kernels,
  gate: Gate,
  scores: View,
  logits: View,
  sizes: { rows: number; cols: number },
): void {
  if (gate === 'softmax') kernels.softmax(scores, logits, sizes);
  else kernels.sigmoid(scores, logits);
}

/**
 * The gradient of {@link scoreLogits}.
 * @param kernels - the backend
 * @param gate - how
 * @param dlogits - [rows, cols], replaced
 * @param dscores - [rows, cols]
 * @param scores - [rows, cols]
 * @param sizes - tokens and experts
 */
export function backThroughGate(
  kernels: Kernels,
  gate: Gate,
  dlogits: View,
  dscores: View,
  scores: View,
  sizes: { rows: number; cols: number },
): void {
  if (gate === 'softmax') kernels.softmaxBackward(dlogits, dscores, scores, sizes);
  else kernels.sigmoidBackward(dlogits, dscores, scores);
}
