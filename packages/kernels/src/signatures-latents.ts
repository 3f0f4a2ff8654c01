// Signatures of attention over cached latents (see signature.ts).
import { type LatentType, latentBytes, latentElements } from './latents';
import {
  dtypeOf,
  integers,
  type Need,
  n,
  plain,
  type Signature,
  type Sizes,
  sizeOf,
  unitOf,
  view,
} from './signature';
import type { DType, Operand } from './storage';

type LatentName = 'latentAttention' | 'latentAttentionBackward' | 'writeLatents' | 'readLatents';
type Given = Operand | null | undefined;

const pool: readonly DType[] = ['f32', 'bf16', 'e4m3'];
/** Checked types only; what is none of a pool's is refused by its `Need`. */
const typeOf = (pages: Given): LatentType => {
  const dtype = dtypeOf(pages);
  return dtype === 'f32' || dtype === 'bf16' ? dtype : 'e4m3';
};
const row = (s: Sizes): { rank: number; rope: number } => ({ rank: n(s.rank), rope: n(s.rope) });
const pagesNeed = (s: Sizes, pages: Given, tokens: number): Need =>
  view('pages', pages, tokens * latentElements(typeOf(pages), row(s)), pool);
const tokenBytes = (s: Sizes, pages: Given): number => latentBytes(typeOf(pages), row(s));

const scaleFault = (s: Sizes): string | false =>
  !(n(s.scale) > 0) && `scale (${n(s.scale)}) is not above 0`;

/** Views of `writeLatents` and `readLatents`, whose order differs. */
const rowNeeds = (s: Sizes, pages: Given, latent: Given, rotary: Given, slots: Given): Need[] => [
  pagesNeed(s, pages, n(s.capacity)),
  view('latent', latent, n(s.tokens) * n(s.rank)),
  view('rotary', rotary, n(s.tokens) * n(s.rope)),
  integers('slots', slots, n(s.tokens)),
];
const rowBytes = (s: Sizes, pages: Given): number =>
  n(s.tokens) * (tokenBytes(s, pages) + 4 * (n(s.rank) + n(s.rope)) + 4);

/** Signatures by kernel. */
export const latentSignatures: Readonly<Record<LatentName, Signature>> = {
  latentAttention: {
    args: 'vvvvvv',
    traffic: 'wwrrrr',
    keys: [
      'sequences',
      'queries',
      'heads',
      'rank',
      'rope',
      'pages',
      'pageSize',
      'tableWidth',
      'scale',
    ],
    needs: (s, [out, lse, q, pages, table, lengths]) => {
      const rows = n(s.sequences) * n(s.queries) * n(s.heads);
      return [
        view('out', out, rows * n(s.rank)),
        view('lse', lse, rows),
        view('q', q, rows * (n(s.rank) + n(s.rope)), plain),
        pagesNeed(s, pages, n(s.pages) * n(s.pageSize)),
        integers('table', table, n(s.sequences) * n(s.tableWidth)),
        integers('lengths', lengths, n(s.sequences)),
      ];
    },
    fault: (s) =>
      scaleFault(s) || (n(s.pageSize) < 1 && `pageSize (${n(s.pageSize)}) is not from 1 on`),
    // As if every sequence filled its part of the table.
    flops: (s, [, , , pages]) => ({
      flops:
        2 *
        n(s.sequences) *
        n(s.queries) *
        n(s.heads) *
        n(s.tableWidth) *
        n(s.pageSize) *
        (2 * n(s.rank) + n(s.rope)),
      unit: unitOf(pages),
    }),
    bytes: (s, [out, lse, q, pages, table, lengths]) =>
      4 * (sizeOf(out) + sizeOf(lse) + sizeOf(table) + sizeOf(lengths)) +
      (dtypeOf(q) === 'bf16' ? 2 : 4) * sizeOf(q) +
      n(s.sequences) * n(s.tableWidth) * n(s.pageSize) * tokenBytes(s, pages),
  },
  latentAttentionBackward: {
    args: 'vvvvvvv',
    traffic: 'wwrrrrr',
    keys: ['batch', 'queries', 'keys', 'heads', 'rank', 'rope', 'scale'],
    needs: (s, [dq, dkeys, dout, q, keys, out, lse]) => {
      const rows = n(s.batch) * n(s.queries) * n(s.heads);
      const width = n(s.rank) + n(s.rope);
      const cached = n(s.batch) * n(s.keys) * width;
      return [
        view('dq', dq, rows * width),
        view('dkeys', dkeys, cached),
        view('dout', dout, rows * n(s.rank)),
        view('q', q, rows * width, plain),
        view('keys', keys, cached, [dtypeOf(q)]),
        view('out', out, rows * n(s.rank)),
        view('lse', lse, rows),
      ];
    },
    fault: (s) =>
      scaleFault(s) ||
      (n(s.keys) < n(s.queries) && `keys (${n(s.keys)}) are fewer than queries (${n(s.queries)})`),
    // Scores again, dq and dkeys over a row; dP and the values' part of dkeys over the latent.
    flops: (s, operands) => ({
      flops:
        2 *
        n(s.batch) *
        n(s.heads) *
        n(s.queries) *
        (n(s.keys) - (n(s.queries) - 1) / 2) *
        (5 * n(s.rank) + 3 * n(s.rope)),
      unit: unitOf(operands[3]),
    }),
  },
  writeLatents: {
    args: 'vvvv',
    traffic: 'wrrr',
    keys: ['tokens', 'capacity', 'rank', 'rope'],
    needs: (s, [pages, latent, rotary, slots]) => rowNeeds(s, pages, latent, rotary, slots),
    bytes: (s, [pages]) => rowBytes(s, pages),
  },
  readLatents: {
    args: 'vvvv',
    traffic: 'wwrr',
    keys: ['tokens', 'capacity', 'rank', 'rope'],
    needs: (s, [latent, rotary, pages, slots]) => rowNeeds(s, pages, latent, rotary, slots),
    bytes: (s, [, , pages]) => rowBytes(s, pages),
  },
};
