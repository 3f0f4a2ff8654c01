// A text in the making: its tokens, how many of them the caches hold, and what drafting goes on from.
//
// Legend: n tokens cached, so that token n, the last one known, is the first the main model has not seen; K drafts behind
// it; D depths that draft.
import { type AttentionForm, attentionForm, type CachedRows } from '@baleen/mla';
import {
  type Acceptance,
  accept,
  countDrafts,
  type DraftCounts,
  draw,
  probabilities,
  type SamplingShape,
} from '@baleen/mtp';
import { concatRows, mulberry32, type Tape, type Tensor } from '@baleen/tensor';

import { pageSize, type SequenceCaches, shareCaches } from './caches';
import type { Decoder } from './decoder';

/** How tokens are chosen. */
export interface SamplingOptions extends SamplingShape {
  /** Most tokens to make. */
  maxTokens: number;
  /** Seeds the choice: the same seed gives the same text. */
  seed?: number;
  /** Tokens that end the text. */
  stop?: readonly number[];
  /**
   * Tokens to draft at a time through multi-token prediction (default 0: none), which saves passes of the main model. At
   * temperature 0 the text is the same, else another one of the same distribution. More drafts than the model has depths
   * are made by applying the last depth to what it gave itself.
   */
  drafts?: number;
  /** Gets what became of the drafts added. */
  counts?: DraftCounts;
  /**
   * How tokens attend to cached ones (default: the prompt by `attentionForm` of `@baleen/mla`, what follows absorbed). Both
   * give the same but for rounding.
   */
  attention?: AttentionForm;
}

/** Hidden states of the main model that drafting still needs. */
export interface DraftWindow {
  /** Position of the first. */
  start: number;
  /** [rows, hidden], held. */
  rows: Tensor;
}

/** What drafting goes on from. */
export interface DraftState {
  /** Positions that the depths' caches hold and that are what they should be. */
  drafted: number;
  /** Hidden states up to the last position cached; null where none were kept. */
  window: DraftWindow | null;
}

/** What a sequence begins with, where its caches hold tokens. */
export interface SequenceStart extends DraftState {
  /**
   * The rest of the prompt is attended to in the form that the whole of it would be, so that the text is the same to the bit
   * (default: in the form with fewer operations).
   */
  asWhole?: boolean;
}

/** Tokens, in whole pages, that a prompt can take over from a text in which so many are final. */
export function sharedTokens(
  prompt: ArrayLike<number>,
  text: ArrayLike<number>,
  { cached, drafted, depths }: { cached: number; drafted: number; depths: number },
): number {
  // Of the last token the model has yet to say what comes after it.
  const most = Math.min(prompt.length - 1, text.length);
  let common = 0;
  while (common < most && prompt[common] === text[common]) common += 1;
  // At position i depth k has read token i + k.
  const tokens = depths > 0 ? Math.min(common - depths, drafted) : Math.min(common, cached);
  return Math.max(0, tokens - (tokens % pageSize));
}

/** One sequence while it is generated. */
export class Sequence {
  /** All tokens known: the prompt, and what was made. */
  readonly tokens: number[];
  /** What comes after them, as drafted: the next pass finds out. */
  drafts: number[] = [];
  /** Why there is nothing more to make, or null. */
  ended: 'stop' | 'length' | null = null;
  private cached: number;
  private readonly promptLength: number;
  private readonly limit: number;
  private readonly random: () => number;
  private readonly outcome: Acceptance = { accepted: 0, token: 0 };
  private drafted: number;
  private window: DraftWindow | null;
  /** What drafts were drawn from [drafts × vocab]. */
  private readonly draftProbabilities: Float32Array;

  /**
   * @param model - the decoder
   * @param caches - its own, with room for {@link demandOf} it; the main model's may hold the first tokens of the prompt
   * @param prompt - token ids, at least one
   * @param options - see {@link SamplingOptions}
   * @param start - what it goes on from where the main model's cache holds tokens: the sequence's from now on
   */
  constructor(
    private readonly model: Decoder,
    private readonly caches: SequenceCaches,
    prompt: Int32Array,
    private readonly options: SamplingOptions,
    private readonly start: SequenceStart = { drafted: 0, window: null },
  ) {
    const { drafts = 0, seed = 0 } = options;
    this.limit = lengthOf(model, prompt, options);
    this.tokens = [...prompt];
    this.promptLength = prompt.length;
    this.cached = caches.main.length;
    this.drafted = start.drafted;
    this.window = start.window;
    this.draftProbabilities = new Float32Array(drafts * model.config.vocabSize);
    this.random = mulberry32(seed);
    if (this.room <= 0) this.ended = 'length';
  }

  /** Tokens that may still be made. */
  private get room(): number {
    return this.limit - this.tokens.length;
  }

  /** How many tokens to draft before the next pass: as many as can stay. */
  get wanted(): number {
    return this.ended ? 0 : Math.max(0, Math.min(this.options.drafts ?? 0, this.room - 1));
  }

  /** Rows of the depth that drafts next.
   * @param depth - which, from 1
   * @param count - how many
   */
  depthRows(depth: number, count: number): CachedRows {
    const cache = this.caches.depths[depth - 1];
    const { asWhole, drafted } = this.start;
    // The first rows of a depth are those of the prompt.
    if (!asWhole || cache.length > drafted) return { cache, count };
    return { cache, count, form: this.formOf(drafted + count) };
  }

  /** The form of so many tokens read at once, with nothing before them. */
  private formOf(tokens: number): AttentionForm {
    return attentionForm(this.model.config.attention, tokens, tokens);
  }

  /**
   * Rows of the main model's next pass. What follows a single token is always absorbed, so that a text does not depend on how
   * many drafts are read with it.
   */
  get rows(): CachedRows {
    const { tokens, cached, drafts, caches, promptLength, start } = this;
    const known = tokens.length - cached;
    const rows = { cache: caches.main, count: known + drafts.length };
    let form = this.options.attention;
    if (start.asWhole && cached < promptLength) form ??= this.formOf(promptLength);
    else if (known === 1 && cached > 0) form ??= 'absorbed';
    return form ? { ...rows, form } : rows;
  }

  /**
   * How many tokens a prompt can take over from this text as it is.
   * @param prompt - token ids
   * @param depths - how many depths draft for it
   * @returns whole pages of tokens
   */
  shareable(prompt: ArrayLike<number>, depths: number): number {
    const { tokens, cached, caches } = this;
    if (depths > caches.depths.length) return 0;
    // Near its end a text may ask for fewer drafts than it has depths: the last ones have read nothing then.
    const read = caches.depths.slice(0, depths).map(({ length }) => length);
    const drafted = Math.min(this.drafted, ...read);
    return sharedTokens(prompt, tokens, { cached, drafted, depths });
  }

  /**
   * Begins a text that begins like this one.
   * @param prompt - its token ids
   * @param options - how it goes on
   * @param shared - tokens taken over, see {@link shareable}
   * @param depths - how many depths draft for it
   * @returns the new sequence, which holds the same pages
   */
  branch(prompt: Int32Array, options: SamplingOptions, shared: number, depths: number): Sequence {
    const caches = shareCaches(this.caches, shared, depths);
    const start = { drafted: depths > 0 ? shared : 0, window: null, asWhole: true };
    return new Sequence(this.model, caches, prompt, options, start);
  }

  /** What the main model has not seen: known tokens, then drafts. */
  pending(): number[] {
    return [...this.tokens.slice(this.cached), ...this.drafts];
  }

  /**
   * Takes what the main model says of the pending tokens.
   * @param tape - a tape that does not record
   * @param logits - after the last known token, and after each draft [(K + 1) × vocab]; written over
   * @param hidden - normed hidden states of the pending tokens [pending, hidden]
   * @returns the tokens made, at least one, without a stop token
   */
  settle(tape: Tape, logits: Float32Array, hidden: Tensor): number[] {
    const { options, drafts, outcome, cached: before } = this;
    const { stop = [], counts } = options;
    const { vocabSize: vocab } = this.model.config;
    const count = drafts.length;
    const p = probabilities(logits, { rows: count + 1, vocab }, { ...options, out: logits });
    const input = {
      drafts: Int32Array.from(drafts),
      draftProbabilities: this.draftProbabilities.subarray(0, count * vocab),
      targetProbabilities: p,
      random: this.random,
    };
    const { accepted, token } = accept(input, { drafts: count, vocab }, { out: outcome });
    if (counts) countDrafts(counts, count, accepted);
    const known = this.tokens.length;
    this.cached = known + accepted;
    this.caches.main.truncate(this.cached);
    // Depth k read token i + k at position i, and drafts were read from position n − D on.
    if (count > 0)
      this.drafted = Math.max(0, Math.min(known - 1, known + accepted - this.caches.depths.length));
    let made = [...drafts.slice(0, accepted), token];
    this.drafts = [];
    const end = made.findIndex((one) => stop.includes(one));
    if (end >= 0) {
      made = made.slice(0, end);
      this.ended = 'stop';
    }
    this.tokens.push(...made);
    if (this.room <= 0) this.ended ??= 'length';
    // Also where nothing more is to be drafted: the text may go on in another turn.
    if ((options.drafts ?? 0) > 0) this.keep(tape, hidden.rows(0, this.cached - before), before);
    return made;
  }

  /** Keeps hidden states for drafting: those of the last pass, and earlier ones that drafting will read again. */
  private keep(tape: Tape, rows: Tensor, start: number): void {
    const { window, drafted } = this;
    const earlier = window ? window.rows.rows(drafted - window.start, start - drafted) : null;
    const all = earlier && earlier.size > 0 ? concatRows(tape, [earlier, rows]) : rows;
    all.block.retain();
    window?.rows.block.release();
    this.window = { start: this.cached - (all.shape[0] ?? 0), rows: all };
  }

  /**
   * Makes ready to draft: the depths' caches forget what they had read of drafts that did not stay.
   * @returns hidden states of the positions after those they hold, up to the last one cached [rows, hidden]; null where
   * nothing is to be drafted, as before the first pass: so a text does not depend on what was remembered of its prompt
   */
  beginDrafts(): Tensor | null {
    const { window, drafted, caches, wanted, tokens, promptLength } = this;
    if (!window || wanted === 0 || tokens.length === promptLength) return null;
    for (const cache of caches.depths) cache.truncate(drafted);
    const skipped = drafted - window.start;
    return window.rows.rows(skipped, (window.rows.shape[0] ?? 0) - skipped);
  }

  /**
   * Draws the next draft.
   * @param logits - what a depth says of it [vocab]
   */
  draft(logits: Float32Array): void {
    const vocab = logits.length;
    const start = this.drafts.length * vocab;
    const out = this.draftProbabilities.subarray(start, start + vocab);
    this.drafts.push(
      draw(probabilities(logits, { vocab }, { ...this.options, out }), this.random()),
    );
  }

  /** What drafting would go on from: a text that is made later takes it over. */
  get drafting(): DraftState {
    return { drafted: this.drafted, window: this.window };
  }

  /** Gives its memory back. */
  release(): void {
    for (const cache of [this.caches.main, ...this.caches.depths]) cache.release();
    this.window?.rows.block.release();
    this.window = null;
  }
}

/** Most tokens of a text. The last one is not read any more: a prompt as long as can be still gets one. */
function lengthOf(
  model: Decoder,
  prompt: Int32Array,
  { maxTokens, drafts = 0 }: SamplingOptions,
): number {
  const { maxSequence } = model.config;
  checkPrompt(prompt, maxSequence);
  if (drafts > 0 && model.mtp.length === 0)
    throw Object.assign(new Error(`${drafts} drafts of a model without multi-token prediction`), {
      code: 'ERR_BALEEN_USAGE_DRAFTS',
      path: 'drafts',
      hint: 'generate without drafts, or train with model.mtp.depth 1 or more',
    });
  return Math.min(Math.max(maxSequence, prompt.length + 1), prompt.length + maxTokens);
}

/** What a sequence takes of caches. */
export interface CacheDemand {
  /** Most tokens cached. */
  capacity: number;
  /** Depths of multi-token prediction that draft. */
  depths: number;
}

/**
 * What a sequence will take of caches.
 * @param model - the decoder
 * @param prompt - token ids
 * @param options - as the sequence gets them
 * @returns tokens and depths
 * @throws ERR_BALEEN_USAGE_PROMPT, ERR_BALEEN_USAGE_DRAFTS where there can be no such sequence
 */
export function demandOf(
  model: Decoder,
  prompt: Int32Array,
  options: SamplingOptions,
): CacheDemand {
  const capacity = Math.max(1, lengthOf(model, prompt, options) - 1);
  return { capacity, depths: Math.min(options.drafts ?? 0, model.mtp.length) };
}

/** Refuses prompts that cannot be continued. */
function checkPrompt({ length }: Int32Array, maxSequence: number): void {
  const refuse = (message: string, hint: string): never => {
    throw Object.assign(new Error(message), { code: 'ERR_BALEEN_USAGE_PROMPT', hint });
  };
  if (length === 0) refuse('the prompt holds no tokens', 'give at least one token');
  if (length > maxSequence)
    refuse(
      `the prompt's ${length} tokens exceed config.maxSequence (${maxSequence})`,
      'shorten the prompt',
    );
}
