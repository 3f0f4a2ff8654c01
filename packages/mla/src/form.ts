// Which form of attention a sequence gets when it is generated: both give the same, and differ in what they take.
//
// Legend: q new tokens, n cached ones with them, h heads, r rank of the latent, d width of a head without position, p of its
// rotary part, v of its value. All counts are multiply-adds of one layer, a head.
import type { HeadSizes } from './heads';

/**
 * How queries meet cached latents (§2.1.1): `expanded`, keys and values are made of the latents of all tokens; or `absorbed`,
 * queries are multiplied by W_UK and the output by W_UV, and latents are read as they lie.
 */
export type AttentionForm = 'absorbed' | 'expanded';

/**
 * The form with fewer multiply-adds. Expanded takes n·r·(d + v) to make keys and values, then (d + p + v) for each pair of a
 * query and a token it sees; absorbed takes q·r·(d + v) for queries and outputs, then (2r + p) for each pair. So few queries
 * over many tokens are absorbed, and prompts are expanded: with V3's widths up to 170 queries over a long cache.
 * @param sizes - widths of a head, and rank of the latent
 * @param queries - new tokens of the sequence
 * @param keys - its tokens, the new ones included
 * @returns the form
 */
export function attentionForm(
  sizes: Pick<HeadSizes, 'nopeDim' | 'valueDim'> & { kvRank: number },
  queries: number,
  keys: number,
): AttentionForm {
  const { nopeDim: d, valueDim: v, kvRank: r } = sizes;
  const pairs = queries * (keys - (queries - 1) / 2);
  return pairs * (2 * r - d - v) <= (keys - queries) * r * (d + v) ? 'absorbed' : 'expanded';
}
