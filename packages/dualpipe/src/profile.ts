// The published profile of DeepSeek-V3's training, as times of a layer's phases.
import type { PhaseTimes } from './phases';

/**
 * Milliseconds that DeepSeek's published profile (github.com/deepseek-ai/profile-data, train.json) shows in an overlapped
 * pair on an H800 GPU with 64 ways of expert parallelism: 4 layers a stage, 4096 tokens a micro-batch, routing balanced by
 * force, no messages between stages. Compute has 112 of 132 SMs. Kernels were put down to phases by the calls that launched
 * them; by their names, gradients of inputs contain what is computed again for them.
 *
 * Gradients of the experts' weights also run on a second stream. What counts of it here is the time in which nothing else
 * computes: all compute of the profile's pair takes 124.3 ms, its first stream 4 · 29.54, which leaves 1.535 ms a layer.
 */
export const publishedProfile: PhaseTimes = {
  layers: 4,
  forward: { attention: 4.36, dispatch: 6.69, experts: 4.6, combine: 8.68 },
  inputGrad: { attention: 9.34, dispatch: 7.49, experts: 5.31, combine: 5.77 },
  weightGrad: { attention: 2.39, experts: 3.54 + 1.535 },
};
