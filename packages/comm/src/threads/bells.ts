// How threads of a job wait for each other: they look a few thousand times, which costs a fraction of a microsecond where
// the others are running, and then sleep until somebody rings.
//
// Legend: n ranks; thread r is that of rank r, thread n + r is its mover's (see mover.ts).

/** Words between threads: a cache line, so that no two write to the same one. */
const line = 16;
/** Places on a thread's line. */
const place = { rings: 0, sleep: 1 } as const;
/** What a thread does: it works, sleeps until something moves on, or sleeps until it is given work. */
const sleep = { none: 0, waiting: 1, idle: 2 } as const;

const { timeOrigin } = performance;

/**
 * Milliseconds since 1970, in fractions: the same clock in every thread.
 * @returns the time
 */
export function now(): number {
  return timeOrigin + performance.now();
}

/** One thread's bell, and those of the others. */
export class Bells {
  /**
   * @param words - of every thread of the job; see `Bells.memory`
   * @param thread - this thread
   * @param spins - how often it looks before it sleeps
   */
  constructor(
    private readonly words: Int32Array,
    private readonly thread: number,
    private spins: number,
  ) {}

  /**
   * Memory for bells.
   * @param threads - how many
   * @returns zeros, shared
   */
  static memory(threads: number): Int32Array {
    return new Int32Array(new SharedArrayBuffer(4 * line * threads));
  }

  /**
   * Says anew how often the thread looks before it sleeps.
   * @param spins - times
   */
  look(spins: number): void {
    this.spins = spins;
  }

  /**
   * Wakes a thread that waits for something to move on.
   * @param thread - which
   */
  ring(thread: number): void {
    // Who rings has written first and then reads whether the other sleeps; who sleeps says so first and then looks once
    // more: one of both sees the other.
    if (Atomics.load(this.words, thread * line + place.sleep) === sleep.waiting) this.wake(thread);
  }

  /**
   * Wakes a thread whatever it sleeps for.
   * @param thread - which
   */
  wake(thread: number): void {
    Atomics.add(this.words, thread * line + place.rings, 1);
    Atomics.notify(this.words, thread * line + place.rings);
  }

  /**
   * Blocks this thread until there is nothing left to wait for.
   * @param step - goes on as far as it can; true: enough
   * @param wakeAt - when to look again though nobody rings, on the clock of `now`
   * @param late - called at each such time
   */
  wait(step: () => boolean, wakeAt: () => number, late: () => void): void {
    for (;;) {
      for (let i = 0; i < this.spins; i += 1) if (step()) return;
      if (this.nap(step, wakeAt(), sleep.waiting)) return;
      late();
    }
  }

  /**
   * Sleeps until somebody rings.
   * @param step - looked at once more before
   * @param until - and not longer than this
   * @param how - what rings are heard: `idle` only those of `wake`
   * @returns whether `step` came through
   */
  nap(step: () => boolean, until: number, how: number = sleep.idle): boolean {
    const base = this.thread * line;
    const rings = Atomics.load(this.words, base + place.rings);
    Atomics.store(this.words, base + place.sleep, how);
    try {
      if (step()) return true;
      Atomics.wait(this.words, base + place.rings, rings, Math.max(0, until - now()));
      return false;
    } finally {
      Atomics.store(this.words, base + place.sleep, sleep.none);
    }
  }
}
