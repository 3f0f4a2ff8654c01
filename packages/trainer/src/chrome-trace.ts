// A profile as Chrome's trace format (chrome://tracing, Perfetto): a row of phases, a row of kernels, and a row of the gaps
// between kernels in which the machine waited for the program.
import type { KernelSpan } from '@baleen/kernels';

/** A named stretch of time, in seconds. */
export interface Span {
  /** What ran. */
  readonly name: string;
  /** When it began. */
  readonly begin: number;
  /** When it ended. */
  readonly end: number;
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
  /** A row's name. */
  args?: Readonly<Record<string, unknown>>;
}

/** The file's contents. */
export interface ChromeTrace {
  /** Rows and what ran in them. */
  traceEvents: TraceEvent[];
  /** Unit that viewers show. */
  displayTimeUnit: 'ms';
}

const rows = ['phases', 'kernels', 'gaps'] as const;

/**
 * Makes a trace.
 * @param process - name of the whole
 * @param phases - what the program was at
 * @param kernels - what kernels ran, in order
 * @returns the file's contents
 */
export function chromeTrace(
  process: string,
  phases: readonly Span[],
  kernels: readonly KernelSpan[],
): ChromeTrace {
  const origin = Math.min(...[phases.at(0), kernels.at(0)].map((span) => span?.begin ?? Infinity));
  const calls = kernels.map(({ kernel, begin, end }) => ({ name: kernel, begin, end }));
  const gaps = kernels.slice(1).flatMap(({ begin, kernel }, index) => {
    const before = kernels[index];
    return begin > before.end ? [{ name: `before ${kernel}`, begin: before.end, end: begin }] : [];
  });
  const named = (name: string, tid: number, value: string): TraceEvent => ({
    name,
    ph: 'M',
    pid: 1,
    tid,
    args: { name: value },
  });
  const events = [phases, calls, gaps].flatMap((spans, tid) =>
    spans.map(
      ({ name, begin, end }): TraceEvent => ({
        name,
        ph: 'X',
        pid: 1,
        tid,
        ts: microseconds(begin - origin),
        dur: microseconds(end - begin),
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

/** To the nanosecond. */
function microseconds(seconds: number): number {
  return Math.round(seconds * 1e9) / 1e3;
}
