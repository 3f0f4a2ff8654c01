// A profile as Chrome's trace format (chrome://tracing, Perfetto): a row each of steps, of forward and backward passes, of
// phases, of kernels with their sizes, and of the gaps between kernels in which the machine waited for the program.
import type { KernelSpan } from '@baleen/kernels';

/** A named stretch of time, in seconds. */
export interface Span {
  /** What ran. */
  readonly name: string;
  /** When it began. */
  readonly begin: number;
  /** When it ended. */
  readonly end: number;
  /** What there is to know about it. */
  readonly args?: Readonly<Record<string, unknown>>;
}

/** One event of the trace; times in microseconds. */
export interface TraceEvent {
  /** What ran, or what the event names. */
  name: string;
  /** A stretch of time (X), or a name of a row (M). */
  ph: 'X' | 'M';
  /** Process. */
  pid: number;
  /** Row. */
  tid: number;
  /** Begin. */
  ts?: number;
  /** Length. */
  dur?: number;
  /** What there is to know about the stretch; a row's name. */
  args?: Readonly<Record<string, unknown>>;
}

/** The file's contents. */
export interface ChromeTrace {
  /** Rows and what ran in them. */
  traceEvents: TraceEvent[];
  /** Unit that viewers show. */
  displayTimeUnit: 'ms';
}

const rows = ['steps', 'passes', 'phases', 'kernels', 'gaps'] as const;

/**
 * Makes a trace.
 * @param process - name of the whole
 * @param program - what the program was at: steps, and in them phases such as `layers.0.attention forward`, in order
 * @param kernels - what kernels ran, in order
 * @returns the file's contents
 */
export function chromeTrace(
  process: string,
  program: { readonly steps: readonly Span[]; readonly phases: readonly Span[] },
  kernels: readonly KernelSpan[],
): ChromeTrace {
  const { steps, phases } = program;
  const spans: Record<(typeof rows)[number], readonly Span[]> = {
    steps,
    passes: passesOf(phases),
    phases,
    kernels: kernels.map(callOf),
    gaps: gapsOf(kernels),
  };
  const origin = Math.min(...Object.values(spans).map((row) => row.at(0)?.begin ?? Infinity));
  const named = (name: string, tid: number, value: string): TraceEvent => ({
    name,
    ph: 'M',
    pid: 1,
    tid,
    args: { name: value },
  });
  const events = rows.flatMap((row, tid) =>
    spans[row].map(
      ({ name, begin, end, args }): TraceEvent => ({
        name,
        ph: 'X',
        pid: 1,
        tid,
        ts: microseconds(begin - origin),
        dur: microseconds(end - begin),
        ...(args === undefined ? {} : { args }),
      }),
    ),
  );
  return {
    traceEvents: [
      named('process_name', 0, process),
      ...rows.map((row, tid) => named('thread_name', tid, row)),
      ...events,
    ],
    displayTimeUnit: 'ms',
  };
}

/** A call with what it was made on; sizes and switches that are 0 are left out. */
function callOf({ kernel, begin, end, operands, sizes }: KernelSpan): Span {
  const args = {
    ...Object.fromEntries(Object.entries(sizes).filter(([, size]) => size !== 0)),
    operands: operands.map((operand) => (operand ? `${operand.dtype} ${operand.size}` : 'none')),
  };
  return { name: kernel, begin, end, args };
}

/** The stretches between kernels. */
function gapsOf(kernels: readonly KernelSpan[]): Span[] {
  return kernels.slice(1).flatMap(({ begin, kernel }, index) => {
    const before = kernels[index];
    return begin > before.end ? [{ name: `before ${kernel}`, begin: before.end, end: begin }] : [];
  });
}

/** Phases that follow each other in one direction, as one: a micro-batch's way forward, and its way back. */
function passesOf(phases: readonly Span[]): Span[] {
  const passes: Span[] = [];
  let last = '';
  for (const { name, begin, end } of phases) {
    const direction = / (forward|backward)$/.exec(name)?.[1] ?? '';
    if (direction !== '')
      if (direction === last)
        passes.push({ name: direction, begin: passes.pop()?.begin ?? begin, end });
      else passes.push({ name: direction, begin, end });
    last = direction;
  }
  return passes;
}

/** To the nanosecond. */
function microseconds(seconds: number): number {
  return Math.round(seconds * 1e9) / 1e3;
}
