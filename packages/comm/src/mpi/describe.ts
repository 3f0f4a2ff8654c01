// What of MPI is installed, without beginning a job.
import { loadKoffi, loadLibrary } from './library';

/** What of MPI is installed. */
export interface MpiReport {
  /** Whether koffi is there, which calls the library. */
  koffi: boolean;
  /** The library as it was found, or null. */
  library: string | null;
  /** What it says that it is, such as `Open MPI v4.1.4`, or null. */
  version: string | null;
  /** What is missing, or null. */
  reason: string | null;
  /** How to get it, or null. */
  hint: string | null;
}

/**
 * Looks for what {@link mpi} needs, without beginning a job.
 * @returns what is there, and what is not
 */
export function describeMpi(): MpiReport {
  const report: MpiReport = {
    koffi: false,
    library: null,
    version: null,
    reason: null,
    hint: null,
  };
  try {
    const koffi = loadKoffi();
    report.koffi = true;
    const { library, name } = loadLibrary(koffi);
    report.library = name;
    // The one call besides MPI_Initialized that a library answers before it has begun.
    const [text, length] = [new Uint8Array(8192), new Int32Array(1)];
    const ask = library.func('int MPI_Get_library_version(uintptr_t, uintptr_t)');
    ask(Number(koffi.address(text)), Number(koffi.address(length)));
    const all = new TextDecoder().decode(text.subarray(0, length[0]));
    report.version =
      /^[^,\n\0]*/
        .exec(all)?.[0]
        .replace(/\s*version:\s*/i, ' ')
        .trim() ?? null;
  } catch (error) {
    const { message, hint } = error as Error & { hint?: string };
    return { ...report, reason: message.replace(/^mpi: /, ''), hint: hint ?? null };
  }
  return report;
}
