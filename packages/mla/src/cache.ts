// The latent cache of one sequence: which pages of a pool its tokens lie in, and how many there are. Pages are shared by
// sequences that begin alike; the last of them is copied before one of its holders adds to it.
import type { LatentPool } from './pool';

/** One sequence's tokens in a pool, in every layer of it. */
export class LatentCache {
  private readonly pages: number[] = [];
  private tokens = 0;

  /** A new sequence, without tokens. */
  constructor(
    /** Where its tokens lie. */
    readonly pool: LatentPool,
  ) {}

  /** Tokens cached. */
  get length(): number {
    return this.tokens;
  }

  /** Bytes of the pages it holds, shared ones included. */
  get bytes(): number {
    return this.pages.length * this.pool.pageBytes;
  }

  /** Pages in which its tokens lie, in order. */
  get table(): readonly number[] {
    return this.pages;
  }

  /**
   * Where a token lies.
   * @param token - from 0
   * @returns page · pageSize + place in the page
   */
  slot(token: number): number {
    const { pageSize } = this.pool;
    return this.pages[Math.floor(token / pageSize)] * pageSize + (token % pageSize);
  }

  /**
   * Makes room for tokens behind the last one; a pass of attention writes them (`LatentAttention.decode`).
   * @param count - how many
   * @throws ERR_BALEEN_MLA_PAGES where the pool has too few free pages, and ERR_BALEEN_MLA_CACHE for no count: then nothing
   *   has changed
   */
  append(count: number): void {
    checkCount('count', count, Infinity, 'name a whole number of tokens from 0');
    const { pool, pages, tokens } = this;
    const { pageSize } = pool;
    const within = tokens % pageSize;
    const last = pages.at(-1);
    const copied = count > 0 && within > 0 && last !== undefined && pool.isShared(last);
    const more = Math.ceil((tokens + count) / pageSize) - pages.length;
    const needed = more + (copied ? 1 : 0);
    if (needed > pool.freePages)
      throw Object.assign(
        new Error(
          `${count} tokens after ${tokens} need ${needed} more pages, and ${pool.freePages} of the pool's ${pool.pages} are free`,
        ),
        {
          code: 'ERR_BALEEN_MLA_PAGES',
          path: 'pages',
          hint: 'release sequences that have ended, or make the pool larger',
        },
      );
    if (copied) {
      const own = pool.take();
      pool.copyPage(own, last, within);
      pool.drop(last);
      pages[pages.length - 1] = own;
    }
    for (let page = 0; page < more; page += 1) pages.push(pool.take());
    this.tokens += count;
  }

  /**
   * Forgets tokens, and lets go of pages that hold none.
   * @param length - how many stay, from the first
   * @throws ERR_BALEEN_MLA_CACHE where it has fewer
   */
  truncate(length: number): void {
    checkCount('length', length, this.tokens, 'name a whole number from 0 to the tokens cached');
    const { pool, pages } = this;
    for (const page of pages.splice(Math.ceil(length / pool.pageSize))) pool.drop(page);
    this.tokens = length;
  }

  /**
   * A sequence with the same tokens so far, in the same pages: a prompt is read once for all that goes on from it.
   * @returns its cache
   */
  clone(): LatentCache {
    const copy = new LatentCache(this.pool);
    for (const page of this.pages) this.pool.hold(page);
    copy.pages.push(...this.pages);
    copy.tokens = this.tokens;
    return copy;
  }

  /** Lets go of its pages: it has no tokens then. */
  release(): void {
    this.truncate(0);
  }
}

function checkCount(path: string, value: number, most: number, hint: string): void {
  if (!(Number.isInteger(value) && value >= 0 && value <= most))
    throw Object.assign(new Error(`${path} (${value}) is not a whole number from 0 to ${most}`), {
      code: 'ERR_BALEEN_MLA_CACHE',
      path,
      hint,
    });
}
