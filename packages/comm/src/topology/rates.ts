// What kernels make of the hardware: shares of the links' bandwidths, and the time of a call beside its bytes. Two sets: one
// that was published, and one that was fitted to six of DeepEP's published figures, so that the others test it.

/** What kernels make of a topology. */
export interface KernelRates {
  /** Share of the fast link's bandwidth that they reach, above 0 to 1. */
  within: number;
  /** Share of the slow link's. */
  between: number;
  /** µs of a call beside its bytes and the links' latencies: launch, flags, waiting for each other. */
  overheadUs: number;
}

/**
 * Published, nothing fitted: 160 of NVLink's 200 GB/s can be reached on an H800, InfiniBand's 50 GB/s in full (§3.2.2;
 * arXiv 2505.09343, §4.3). These are the figures behind 3.2 experts a node.
 */
export const publishedRates: KernelRates = { within: 0.8, between: 1, overheadUs: 0 };

/**
 * Fitted to three rows of DeepEP's tables for its first kernels on H800 (docs/legacy.md of its repository), dispatch and
 * combine alike: `within` and `overheadUs` to the two rows of one node, normal and low-latency kernels, `between` to the normal
 * row of 64 ranks. `docs/topology.md` has the errors of these and of all other rows.
 */
export const fittedRates: KernelRates = { within: 0.7, between: 0.9, overheadUs: 20 };
