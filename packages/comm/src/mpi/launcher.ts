// Whether this process is a rank of a job, and of how many: what launchers leave in the environment.

/** Variables that hold the number of ranks, by launcher. */
const variables = ['OMPI_COMM_WORLD_SIZE', 'PMI_SIZE', 'SLURM_NTASKS'] as const;

/** A job as its launcher describes it. */
export interface Launch {
  /** Ranks. */
  ranks: number;
  /** The variable that says so. */
  variable: string;
}

/**
 * The job that this process is a rank of.
 * @param env - environment variables
 * @returns null where no launcher started it: a batch script of Slurm is no rank, though the number is there
 */
export function launchOf(env: Readonly<Record<string, string | undefined>>): Launch | null {
  for (const variable of variables) {
    const ranks = Number(env[variable]);
    if (!Number.isInteger(ranks) || ranks < 1) continue;
    if (variable === 'SLURM_NTASKS' && env.SLURM_PROCID === undefined) continue;
    if (variable === 'SLURM_NTASKS' && env.SLURM_STEP_ID === undefined) continue;
    return { ranks, variable };
  }
  return null;
}
