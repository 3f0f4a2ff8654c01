// The FP8 recipe's keys in a run's configuration (§3.3).
import type { Fp8Recipe } from '@baleen/fp8';
import type { KeptForm } from '@baleen/tensor';
import { z } from 'zod';

const inFp8 = (text: string): z.ZodBoolean =>
  z.boolean().describe(`FP8 in ${text}; false for BF16`);
const codes = (text: string): z.ZodEnum<{ e4m3: 'e4m3'; e5m2: 'e5m2' }> =>
  z.enum(['e4m3', 'e5m2']).describe(`format of ${text} in the products`);
const keptIn = (text: string): z.ZodType<KeptForm> =>
  z.enum(['fp32', 'bf16', 'e5m6', 'fp8']).describe(`what ${text} is kept in for backward`);

/** `fp8Recipe` of @baleen/fp8, a key a choice. */
export const fp8: z.ZodType<Fp8Recipe> = z.strictObject({
  layers: z.strictObject({
    attention: inFp8('the projections of attention'),
    feedForward: inFp8('dense feed-forwards'),
    experts: inFp8('experts, routed and shared'),
  }),
  activations: z.strictObject({
    format: codes('activations'),
    scales: z
      .enum(['v3', 'fp32', 'powerOfTwo'])
      .describe('scales of activations: powers of two where V3 has them, nowhere, everywhere'),
  }),
  weights: z.strictObject({
    format: codes('weights'),
    block: z
      .enum(['128x128', '1x128'])
      .describe('what shares a scale in weights; tiles lie along each product’s sums'),
    scales: z.enum(['fp32', 'powerOfTwo']).describe('scales of weights'),
  }),
  gradients: z.strictObject({
    format: codes('gradients'),
    block: z
      .enum(['1x128', '128x128'])
      .describe('what shares a scale in gradients; tiles lie along each product’s sums'),
    scales: z
      .enum(['v3', 'fp32', 'powerOfTwo'])
      .describe('scales of gradients: powers of two where V3 has them, nowhere, everywhere'),
  }),
  products: z.strictObject({
    promotion: z
      .int()
      .min(1)
      .max(128)
      .describe('products after which a partial sum is scaled and added to the FP32 sum'),
    tensorCore: z
      .strictObject({
        fractionBits: z
          .int()
          .min(1)
          .max(45)
          .describe('bits kept below the largest exponent of 32 products: 13 on Hopper'),
        accumulator: z
          .enum(['aligned', 'fp32'])
          .describe('whether the sum is aligned and cut as well, as on Hopper, or stays in FP32'),
      })
      .nullable()
      .describe('an emulated tensor core for partial sums, slow; null for FP32 additions'),
  }),
  kept: z.strictObject({
    swigluInputs: keptIn('each of SwiGLU’s inputs'),
    attentionOutput: keptIn('attention’s output'),
  }),
});
