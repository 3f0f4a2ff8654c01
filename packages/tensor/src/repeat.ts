// Work that makes the same kernel calls every time it runs: made once by the program, and from then on from a recording
// of the calls, where the kernels can record.
import type { Kernels, Recording } from '@baleen/kernels';

/** One such piece of work. */
export class RepeatedCalls {
  private recording: Recording | null = null;
  private key: readonly unknown[] = [];

  /** @param kernels - the backend */
  constructor(private readonly kernels: Kernels) {}

  /**
   * Makes the calls.
   * @param body - makes them; must make the same calls on the same memory as long as the key is the same
   * @param key - what the calls depend on, compared value by value
   */
  run(body: () => void, key: readonly unknown[]): void {
    const same = key.length === this.key.length && key.every((value, i) => value === this.key[i]);
    if (this.recording && same) {
      this.recording.replay();
      return;
    }
    this.recording = null;
    if (this.kernels.record) this.recording = this.kernels.record(body);
    else body();
    this.key = key;
  }
}
