// A priority queue of number pairs, smallest first: what both training and applying byte-pair merges walk by.

/** A binary heap of pairs, ordered by the first number and then the second. */
export class PairQueue {
  private first = new Float64Array(64);
  private second = new Float64Array(64);
  private count = 0;

  /** Pairs in it. */
  get size(): number {
    return this.count;
  }

  /** Empties it. */
  clear(): void {
    this.count = 0;
  }

  /**
   * Adds a pair.
   * @param first - what counts first
   * @param second - what decides between equals
   */
  push(first: number, second: number): void {
    if (this.count === this.first.length) {
      const { first: firsts, second: seconds } = this;
      (this.first = new Float64Array(2 * this.count)).set(firsts);
      (this.second = new Float64Array(2 * this.count)).set(seconds);
    }
    let place = this.count;
    this.count += 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!this.before(first, second, parent)) break;
      this.move(parent, place);
      place = parent;
    }
    this.first[place] = first;
    this.second[place] = second;
  }

  /**
   * Takes the smallest pair out.
   * @param out - receives it
   * @returns whether there was one
   */
  pop(out: { first: number; second: number }): boolean {
    if (this.count === 0) return false;
    out.first = this.first[0];
    out.second = this.second[0];
    this.count -= 1;
    const first = this.first[this.count];
    const second = this.second[this.count];
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= this.count) break;
      if (child + 1 < this.count && this.inOrder(child + 1, child)) child += 1;
      if (this.before(first, second, child) || this.isEqual(first, second, child)) break;
      this.move(child, place);
      place = child;
    }
    this.first[place] = first;
    this.second[place] = second;
    return true;
  }

  private before(first: number, second: number, place: number): boolean {
    const other = this.first[place];
    return first < other || (first === other && second < this.second[place]);
  }

  private isEqual(first: number, second: number, place: number): boolean {
    return first === this.first[place] && second === this.second[place];
  }

  private inOrder(place: number, other: number): boolean {
    return this.before(this.first[place], this.second[place], other);
  }

  private move(from: number, to: number): void {
    this.first[to] = this.first[from];
    this.second[to] = this.second[from];
  }
}
