// The system's MPI library through koffi: the few functions that the transport needs, all on bytes. Open MPI's handles are
// addresses of symbols that it exports, MPICH's (and those of its kin: Intel MPI, MVAPICH) are integers: two tables, told
// apart by those symbols. Pointers are passed as numbers, which costs least.
import { createRequire } from 'node:module';

import { commError } from '../errors';

/** What of koffi is used. */
export interface Koffi {
  load(path: string, options: { global: boolean }): Library;
  address(value: unknown): bigint;
  view(address: bigint, bytes: number): ArrayBuffer;
}
export interface Library {
  func(prototype: string): (...args: number[]) => number;
  symbol(name: string, type: string): unknown;
}

/** How a library writes handles and what stands for nothing. */
interface Abi {
  readonly world: number;
  readonly byte: number;
  readonly errorsReturn: number;
  readonly nullRequest: number;
  /** Type of a handle in C. */
  readonly handle: 'uintptr_t' | 'int';
  /** MPI_STATUS_IGNORE and MPI_STATUSES_IGNORE. */
  readonly ignore: number;
  readonly anySource: number;
  /** Index of MPI_SOURCE among the 32-bit words of a status. */
  readonly source: number;
}

/** Levels of MPI_Init_thread. */
export const threadLevel = { serialized: 2, multiple: 3 } as const;

/** Words that calls write their small results to. */
const words = new Int32Array(new SharedArrayBuffer(256));
const word = { flag: 0, count: 1, status: 8 } as const;

/** Libraries by launcher: the one that started this process comes first. */
const openMpi = ['libmpi.so.40', 'libmpi.40.dylib'];
const mpich = ['libmpich.so.12', 'libmpi.so.12', 'libmpi.12.dylib'];

/** Seconds that the end of a job may take before this process ends alone. */
const abortSeconds = 10;

/** The largest number of bytes in one message: counts are 32-bit integers. */
export const mostBytes: number = 2 ** 30;

/** Loads koffi. */
export function loadKoffi(): Koffi {
  try {
    return createRequire(import.meta.url)('koffi') as Koffi;
  } catch (cause) {
    throw Object.assign(
      commError('MPI', 'mpi: koffi is not installed', 'npm install koffi@^3.3.4', {
        path: 'koffi',
      }),
      { cause },
    );
  }
}

/** Loads the MPI library that belongs to this process's launcher, or the one that is named. */
export function loadLibrary(koffi: Koffi): { library: Library; name: string } {
  const named = process.env.BALEEN_MPI_LIBRARY;
  const underMpich = process.env.PMI_SIZE !== undefined && !process.env.OMPI_COMM_WORLD_SIZE;
  const names = named
    ? [named]
    : [...(underMpich ? [...mpich, ...openMpi] : [...openMpi, ...mpich]), 'libmpi.so'];
  const failures: string[] = [];
  for (const name of names)
    try {
      // Global: the library loads parts of itself that look for its symbols.
      return { library: koffi.load(name, { global: true }), name };
    } catch (error) {
      failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  throw commError(
    'MPI',
    `mpi: no MPI library was found (${failures.join('; ')})`,
    'install one (apt-get install openmpi-bin), or name it in BALEEN_MPI_LIBRARY',
    { path: 'BALEEN_MPI_LIBRARY' },
  );
}

function abiOf(koffi: Koffi, library: Library): Abi {
  const symbol = (name: string): number => Number(koffi.address(library.symbol(name, 'char')));
  let world: number;
  try {
    world = symbol('ompi_mpi_comm_world');
  } catch {
    return {
      world: 0x44000000,
      byte: 0x4c00010d,
      errorsReturn: 0x54000001,
      nullRequest: 0x2c000000,
      handle: 'int',
      ignore: 1,
      anySource: -2,
      source: 2,
    };
  }
  return {
    world,
    byte: symbol('ompi_mpi_byte'),
    errorsReturn: symbol('ompi_mpi_errors_return'),
    nullRequest: symbol('ompi_request_null'),
    handle: 'uintptr_t',
    ignore: 0,
    anySource: -1,
    source: 0,
  };
}

/** Requests of a call that may be under way at once. */
export class Requests {
  private memory: BigUint64Array | Int32Array;
  private base = 0;
  /** How many there are. */
  count = 0;

  constructor(private readonly mpi: Mpi) {
    this.memory = mpi.requestMemory(64);
    this.base = mpi.addressOf(this.memory);
  }

  /** Where the next request is written to. */
  next(): number {
    if (this.count === this.memory.length) {
      // The library knows requests by their values: they may be moved.
      const larger = this.mpi.requestMemory(2 * this.count);
      larger.set(this.memory as never);
      this.memory = larger;
      this.base = this.mpi.addressOf(larger);
    }
    const at = this.at(this.count);
    this.count += 1;
    return at;
  }

  /** Where a request is. */
  at(index: number): number {
    return this.base + index * this.memory.BYTES_PER_ELEMENT;
  }

  /** Whether all have ended; then there are none any more. */
  ended(): boolean {
    if (this.count === 0) return true;
    if (!this.mpi.testAll(this.count, this.base)) return false;
    this.count = 0;
    return true;
  }
}

/** What MPI's functions return is a code; 0 is success. */
type Function_ = (...args: number[]) => number;
/** The functions by their names. */
interface Functions {
  readonly Init_thread: Function_;
  readonly Initialized: Function_;
  readonly Query_thread: Function_;
  readonly Comm_set_errhandler: Function_;
  readonly Comm_rank: Function_;
  readonly Comm_size: Function_;
  readonly Isend: Function_;
  readonly Issend: Function_;
  readonly Irecv: Function_;
  readonly Testall: Function_;
  readonly Test: Function_;
  readonly Iprobe: Function_;
  readonly Cancel: Function_;
  readonly Request_free: Function_;
  readonly Finalize: Function_;
  readonly Abort: Function_;
  readonly Error_string: Function_;
}

/** The functions of MPI that are used, bound once for each thread. */
export class Mpi {
  readonly name: string;
  private readonly koffi: Koffi;
  private readonly abi: Abi;
  private readonly functions: Functions;
  private readonly alarm: Function_;
  private readonly words: number;

  constructor() {
    this.koffi = loadKoffi();
    const { library, name } = loadLibrary(this.koffi);
    this.name = name;
    this.abi = abiOf(this.koffi, library);
    this.words = Number(this.koffi.address(words));
    const h = this.abi.handle;
    const transfer = `(uintptr_t, int, ${h}, int, int, ${h}, uintptr_t)`;
    const parameters: Record<keyof Functions, string> = {
      Init_thread: '(uintptr_t, uintptr_t, int, uintptr_t)',
      Initialized: '(uintptr_t)',
      Query_thread: '(uintptr_t)',
      Comm_set_errhandler: `(${h}, ${h})`,
      Comm_rank: `(${h}, uintptr_t)`,
      Comm_size: `(${h}, uintptr_t)`,
      Isend: transfer,
      Issend: transfer,
      Irecv: transfer,
      Testall: '(int, uintptr_t, uintptr_t, uintptr_t)',
      Test: '(uintptr_t, uintptr_t, uintptr_t)',
      Iprobe: `(int, int, ${h}, uintptr_t, uintptr_t)`,
      Cancel: '(uintptr_t)',
      Request_free: '(uintptr_t)',
      Finalize: '()',
      Abort: `(${h}, int)`,
      Error_string: '(int, uintptr_t, uintptr_t)',
    };
    this.functions = Object.fromEntries(
      Object.entries(parameters).map(([function_, types]) => [
        function_,
        library.func(`int MPI_${function_}${types}`),
      ]),
    ) as unknown as Functions;
    // Of the C library, which every MPI library has loaded.
    this.alarm = library.func('unsigned int alarm(unsigned int)');
  }

  /**
   * Begins, unless that was done before.
   * @param level - of threads, to ask for
   * @returns what was granted
   */
  init(level: number): number {
    const flag = this.out(word.flag);
    this.check('Initialized', this.functions.Initialized(flag));
    if (words[word.flag] === 0)
      this.check('Init_thread', this.functions.Init_thread(0, 0, level, flag));
    else this.check('Query_thread', this.functions.Query_thread(flag));
    const granted = words[word.flag];
    this.check(
      'Comm_set_errhandler',
      this.functions.Comm_set_errhandler(this.abi.world, this.abi.errorsReturn),
    );
    return Math.min(granted, level);
  }

  /** This process among all. */
  rank(): number {
    this.check('Comm_rank', this.functions.Comm_rank(this.abi.world, this.out(word.flag)));
    return words[word.flag];
  }

  /** Processes that the library knows of. */
  size(): number {
    this.check('Comm_size', this.functions.Comm_size(this.abi.world, this.out(word.flag)));
    return words[word.flag];
  }

  /**
   * Begins to send or receive.
   * @param how - `Issend` ends only when the other receives
   * @param address - of the first byte
   * @param bytes - at most `mostBytes`
   * @param rank - of the other, among all processes
   * @param tag - of the message
   * @param request - where the request is written to
   */
  transfer(
    how: 'Isend' | 'Issend' | 'Irecv',
    address: number,
    bytes: number,
    rank: number,
    tag: number,
    request: number,
  ): void {
    const { byte, world } = this.abi;
    this.check(how, this.functions[how](address, bytes, byte, rank, tag, world, request));
  }

  /** Whether requests have all ended. */
  testAll(count: number, requests: number): boolean {
    this.check(
      'Testall',
      this.functions.Testall(count, requests, this.out(word.flag), this.abi.ignore),
    );
    return words[word.flag] !== 0;
  }

  /** Whether one request has ended. */
  test(request: number): boolean {
    this.check('Test', this.functions.Test(request, this.out(word.flag), this.abi.ignore));
    return words[word.flag] !== 0;
  }

  /**
   * The sender of a message that is on its way; −1 where none is. Its data may be with the sender still.
   * @param tag - of the message
   */
  probe(tag: number): number {
    const { anySource, world, source } = this.abi;
    this.check(
      'Iprobe',
      this.functions.Iprobe(anySource, tag, world, this.out(word.flag), this.out(word.status)),
    );
    return words[word.flag] === 0 ? -1 : words[word.status + source];
  }

  /** Gives a request up: its memory is not written to any more. */
  cancel(request: number): void {
    this.check('Cancel', this.functions.Cancel(request));
    this.check('Request_free', this.functions.Request_free(request));
  }

  /** Ends, together with all others. */
  finalize(): void {
    this.check('Finalize', this.functions.Finalize());
  }

  /** Ends the job. Where nobody answers any more, behind a link that is down say, this process ends all the same. */
  abort(code: number): void {
    this.alarm(abortSeconds);
    this.check('Abort', this.functions.Abort(this.abi.world, code));
  }

  /** Where an array's bytes are. They stay there: what `buffer` was asked for lies outside of the heap that is tidied up. */
  addressOf(array: ArrayBufferView): number {
    return array.buffer.byteLength === 0 ? 0 : Number(this.koffi.address(array));
  }

  /** Bytes of this process, wherever they were made. */
  bytesAt(address: number, bytes: number): Uint8Array {
    return bytes === 0
      ? new Uint8Array(0)
      : new Uint8Array(this.koffi.view(BigInt(address), bytes));
  }

  /** Memory for requests, none of which is under way. */
  requestMemory(count: number): BigUint64Array | Int32Array {
    const { handle, nullRequest } = this.abi;
    return handle === 'int'
      ? new Int32Array(new SharedArrayBuffer(4 * count)).fill(nullRequest)
      : new BigUint64Array(new SharedArrayBuffer(8 * count)).fill(BigInt(nullRequest));
  }

  private out(index: number): number {
    return this.words + 4 * index;
  }

  private check(name: keyof Functions, code: number): void {
    if (code !== 0) this.fail(name, code);
  }

  private fail(name: keyof Functions, code: number): never {
    const text = new Uint8Array(new SharedArrayBuffer(1024));
    this.functions.Error_string(code, this.addressOf(text), this.out(word.count));
    const message = new TextDecoder().decode(text.slice(0, words[word.count]));
    throw commError(
      'MPI',
      `MPI_${name}: ${message}`,
      'the job is of no use any more; see what the launcher says',
    );
  }
}
