// Shared memory that threads tell each other of. A SharedArrayBuffer reaches another thread only as a message; from then
// on a number stands for it. Messages go over a broadcast channel of the job, which a thread reads without returning to
// its event loop.
import { BroadcastChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';

/** What goes over the channel. */
type News = { id: number; buffer: SharedArrayBuffer } | { forget: number };

/** Numbers of one thread's buffers: 2³² of them before the next thread's begin. */
const numbersOfRank = 2 ** 32;

/** The shared memory that a thread knows. */
export class Buffers {
  private readonly known = new Map<number, SharedArrayBuffer>();
  private readonly numbers = new WeakMap<SharedArrayBuffer, number>();
  private readonly own = new Map<number, WeakRef<SharedArrayBuffer>>();
  private readonly channel: BroadcastChannel;
  /** When this thread has no more use for a buffer, the others need not keep it either. */
  private readonly gone = new FinalizationRegistry<number>((id) => {
    this.own.delete(id);
    this.channel.postMessage({ forget: id } satisfies News);
  });
  private next: number;

  /**
   * @param channel - name of the job's channel
   * @param rank - whose buffers this thread announces
   */
  constructor(channel: string, rank: number) {
    this.next = rank * numbersOfRank;
    this.channel = new BroadcastChannel(channel);
    this.channel.onmessage = ({ data }: { data: unknown }) => {
      this.learn(data as News);
    };
    this.channel.unref();
  }

  /**
   * The number of a buffer, announced to the others when it is new.
   * @param buffer - of this thread
   * @returns its number
   */
  idOf(buffer: SharedArrayBuffer): number {
    const found = this.numbers.get(buffer);
    if (found !== undefined) return found;
    const id = this.next++;
    this.numbers.set(buffer, id);
    this.own.set(id, new WeakRef(buffer));
    this.gone.register(buffer, id);
    this.channel.postMessage({ id, buffer } satisfies News);
    return id;
  }

  /**
   * The buffer of a number. Whoever wrote the number where others read it had announced the buffer before.
   * @param id - its number
   * @returns the buffer
   */
  get(id: number): SharedArrayBuffer {
    const found = this.own.get(id)?.deref() ?? this.known.get(id);
    if (found) return found;
    this.drain();
    const late = this.known.get(id);
    if (!late) throw new Error(`shared memory ${id} was never announced`);
    return late;
  }

  /**
   * All buffers, for a thread that comes later.
   * @returns pairs of number and buffer
   */
  all(): [number, SharedArrayBuffer][] {
    this.drain();
    const own = [...this.own].flatMap(([id, weak]): [number, SharedArrayBuffer][] => {
      const buffer = weak.deref();
      return buffer ? [[id, buffer]] : [];
    });
    return [...this.known, ...own];
  }

  /**
   * Takes over what another thread knew.
   * @param buffers - pairs of number and buffer
   */
  adopt(buffers: Iterable<readonly [number, SharedArrayBuffer]>): void {
    for (const [id, buffer] of buffers) this.known.set(id, buffer);
  }

  /** Stops listening. */
  close(): void {
    this.channel.close();
  }

  private drain(): void {
    for (;;) {
      // The types of Node 20 know only ports here; it takes channels as well.
      const received = receiveMessageOnPort(this.channel as unknown as MessagePort) as
        | { message: News }
        | undefined;
      if (!received) return;
      this.learn(received.message);
    }
  }

  private learn(news: News): void {
    if ('forget' in news) this.known.delete(news.forget);
    else this.known.set(news.id, news.buffer);
  }
}
