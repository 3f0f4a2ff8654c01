// The parts of a pass that backward may make again.

/**
 * What backward makes again rather than finding it kept (§3.2.3, §3.3.3): `norms`, the normed stream in the form that products
 * take; `upProjections`, attention's queries and up-projected latents with the norms before them; `activations`, SwiGLU's
 * output; `permuted`, tokens in the order of experts; `forms`, attention's output in the form that products take.
 */
export const recomputedParts = [
  'norms',
  'upProjections',
  'activations',
  'permuted',
  'forms',
] as const;

/** One of {@link recomputedParts}. */
export type RecomputedPart = (typeof recomputedParts)[number];
