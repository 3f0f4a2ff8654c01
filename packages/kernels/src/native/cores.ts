// How many threads a process takes where nobody says: every core, or its share of them beside other ranks of a job.

/** What launchers tell a process about how many of its job's processes run on its machine. */
const localRanks = [
  'OMPI_COMM_WORLD_LOCAL_SIZE', // Open MPI
  'MPI_LOCALNRANKS', // MPICH and Intel MPI
  'SLURM_STEP_TASKS_PER_NODE', // srun: "4", "4(x2)" or "4,3", the first node's first
] as const;

/** A machine as a process sees it. */
export interface Cores {
  /** Cores of the machine. */
  all: number;
  /** Cores this process may run on. */
  allowed: number;
  /** Its environment. */
  env: Readonly<Record<string, string | undefined>>;
}

/**
 * Threads for one process: the cores it may run on, and no more than its share if ranks of a job share the machine
 * without being bound to cores of their own.
 * @param cores - the machine
 * @returns 1 to 64: more are of no use to the products of a training step
 */
export function threadShare({ all, allowed, env }: Cores): number {
  const ranks = localRanks.map((name) => Number.parseInt(env[name] ?? '', 10)).find((n) => n > 0);
  return Math.max(1, Math.min(allowed, Math.floor(all / (ranks ?? 1)), 64));
}
