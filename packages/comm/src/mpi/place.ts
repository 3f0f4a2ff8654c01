// A rank's place in a group of processes: how it tells the others of failures, and hears of theirs.
//
// Messages are told apart by tags: a group's number, and what they are.
import { type Failure, FailureRecord } from '../failure';
import { signatureLength } from '../signature';
import { type Mpi, Requests } from './library';

/** Kinds of messages. */
export const kind = { meeting: 0, data: 1, send: 2, sendData: 3, received: 4, notice: 5 } as const;
const kinds = 8;

/** Payload up to this many bytes travels with the signature of its call. */
export const inlineBytes = 2048;

/** Bytes of a notice: so few travel with the message, and need nothing more of a sender that may be dead by then. */
const noticeBytes = 2048;

/** Summands up to this size keep their memory for later sums. */
const keptBytes = 2 ** 26;

/** What is written in a notice. */
type Notice = Failure | { closed: number };

/** A group as threads of a process tell each other of it. */
export interface PlaceData {
  /** Number of the group, the same on all of its ranks. */
  readonly group: number;
  readonly rank: number;
  /** Processes by their rank in the group. */
  readonly members: readonly number[];
  /** Their process numbers where they run on this machine, else 0. */
  readonly pids: readonly number[];
  /** See `Place.memory`. */
  readonly memory: SharedArrayBuffer;
}

/** Memory that the library reads or writes, with its address. */
export interface Memory {
  readonly bytes: Uint8Array;
  readonly address: number;
}

/** Memory of its own for one thread. */
function memoryOf(mpi: Mpi, bytes: number): Memory {
  const array = new Uint8Array(new SharedArrayBuffer(Math.max(8, bytes)));
  return { bytes: array, address: mpi.addressOf(array) };
}

/** Memory for a signature, and payload after it. */
export interface Envelope extends Memory {
  readonly signature: Float64Array;
}

/** What a message between two ranks needs. */
export interface MessageKit {
  readonly leaving: Requests;
  readonly arrivals: Requests;
  readonly envelope: Envelope;
  readonly answer: Memory;
}

function envelopeOf(mpi: Mpi, size: number): Envelope {
  const length = signatureLength(size);
  const memory = memoryOf(mpi, 8 * length + inlineBytes);
  return { ...memory, signature: new Float64Array(memory.bytes.buffer, 0, length) };
}

/** A thread's view of a group. */
export class Place {
  readonly size: number;
  readonly rank: number;
  readonly members: readonly number[];
  /** The other ranks, the next one first. */
  readonly others: readonly number[];
  readonly record: FailureRecord;
  readonly requests: Requests;
  /** When this thread's last call on the group began. */
  lastBegan = 0;
  /** What goes to each rank at the beginning of a meeting, and comes from it: a signature, and payload if it is small. */
  readonly out: readonly Envelope[];
  readonly in: readonly Envelope[];
  /** What comes from each rank in a meeting. */
  readonly arrivals: readonly Requests[];
  /** What messages need, of those that have ended. */
  private readonly kits: MessageKit[] = [];
  /** Where summands of each rank lay last. */
  private readonly summands: Memory[] = [];
  private readonly closedWords: Int32Array;
  private readonly lock: Int32Array;
  /** Notices that are being received. */
  private arriving: { notice: Memory; requests: Requests }[] = [];

  constructor(
    readonly mpi: Mpi,
    readonly data: PlaceData,
  ) {
    const { members, rank, memory } = data;
    this.size = members.length;
    this.rank = rank;
    this.members = members;
    this.others = members.slice(1).map((_, i) => (rank + i + 1) % members.length);
    this.record = new FailureRecord(memory, 0);
    this.lock = new Int32Array(memory, FailureRecord.bytes, 1);
    this.closedWords = new Int32Array(memory, FailureRecord.bytes + 4, this.size);
    this.requests = new Requests(mpi);
    this.out = members.map(() => envelopeOf(mpi, this.size));
    this.in = members.map(() => envelopeOf(mpi, this.size));
    this.arrivals = members.map(() => new Requests(mpi));
  }

  /** Memory that the threads of a process share for a group of so many ranks. */
  static memory(size: number): SharedArrayBuffer {
    return new SharedArrayBuffer(FailureRecord.bytes + 4 + 4 * size);
  }

  /** What a message needs; given back when it went well. */
  takeKit(): MessageKit {
    const { mpi } = this;
    return (
      this.kits.pop() ?? {
        leaving: new Requests(mpi),
        arrivals: new Requests(mpi),
        envelope: envelopeOf(mpi, 0),
        answer: memoryOf(mpi, 8),
      }
    );
  }

  /** Takes back what a message needed. */
  giveKit(kit: MessageKit): void {
    this.kits.push(kit);
  }

  /**
   * Memory for what a rank has to a sum; the same at the next sum, unless that is larger.
   * @param rank - which
   * @param bytes - at least so many
   * @returns memory, whatever it holds
   */
  summand(rank: number, bytes: number): Memory {
    const last = this.summands[rank] as Memory | undefined;
    if (last && last.bytes.length >= bytes) return last;
    const memory = memoryOf(this.mpi, bytes);
    if (bytes <= keptBytes) this.summands[rank] = memory;
    return memory;
  }

  /** The tag of a kind of message of this group. */
  tag(of: number): number {
    return this.data.group * kinds + of;
  }

  /** Whether a rank closed its end. */
  closed(rank: number): boolean {
    return Atomics.load(this.closedWords, rank) === 1;
  }

  /** Whether a rank's process is no more; of one on another machine nobody knows. */
  dead(rank: number): boolean {
    const pid = this.data.pids[rank];
    if (pid === 0) return false;
    try {
      process.kill(pid, 0);
      return false;
    } catch (error) {
      return (error as { code?: string }).code === 'ESRCH';
    }
  }

  /** Writes a failure, and tells the others where it is the first. */
  fail(failure: Failure): void {
    if (this.record.fail(failure)) this.tell(failure);
  }

  /** Tells the others that this rank has closed. */
  close(): void {
    this.tell({ closed: this.rank });
  }

  /** Hears what others have to tell. It never waits: who sends a notice may die before the end of it. */
  listen(): void {
    const { mpi } = this;
    // Between looking and receiving no other thread may take the message.
    if (Atomics.compareExchange(this.lock, 0, 0, 1) === 0)
      try {
        for (;;) {
          const source = mpi.probe(this.tag(kind.notice));
          if (source === -1) break;
          const notice = memoryOf(mpi, noticeBytes);
          const requests = new Requests(mpi);
          const at = requests.next();
          mpi.transfer('Irecv', notice.address, noticeBytes, source, this.tag(kind.notice), at);
          this.arriving.push({ notice, requests });
        }
      } finally {
        Atomics.store(this.lock, 0, 0);
      }
    if (this.arriving.length === 0) return;
    this.arriving = this.arriving.filter(({ notice, requests }) => {
      if (!requests.ended()) return true;
      this.hear(notice);
      return false;
    });
  }

  private hear({ bytes }: Memory): void {
    const text = new TextDecoder().decode(bytes.slice());
    const notice = JSON.parse(text.slice(0, text.indexOf('\0'))) as Notice;
    if ('closed' in notice) Atomics.store(this.closedWords, notice.closed, 1);
    else this.record.fail(notice);
  }

  private tell(notice: Notice): void {
    let text = new TextEncoder().encode(JSON.stringify(notice));
    if (text.length >= noticeBytes && 'message' in notice) {
      const message = `${notice.message.slice(0, noticeBytes / 4)} …`;
      text = new TextEncoder().encode(JSON.stringify({ ...notice, message }));
    }
    const memory = memoryOf(this.mpi, noticeBytes);
    memory.bytes.set(text);
    // Nobody waits for these, and the library may read them whenever it likes: they stay.
    const requests = new Requests(this.mpi);
    notices.push({ memory, requests });
    this.members.forEach((member, rank) => {
      if (rank !== this.rank)
        this.mpi.transfer(
          'Isend',
          memory.address,
          noticeBytes,
          member,
          this.tag(kind.notice),
          requests.next(),
        );
    });
  }
}

/** Notices that are on their way, as far as is known. */
const notices: unknown[] = [];
