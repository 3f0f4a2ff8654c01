// Loads over a run, layer by layer: the numbers of a picture, and of what is said about it.
//
// Batch MaxVio is that of each sample, global MaxVio that of all samples' loads together (arXiv 2408.15664, §4.1): loads that
// change sides from step to step are uneven in every batch and even over the run.
import { checkLength, checkWhole, refuse } from './checks';
import { type Counts, loadEntropy, loadHistogram, maxViolation } from './telemetry';

/** Loads of all layers, sample by sample. */
export interface LoadSeries {
  /** The step of each sample, ascending. */
  steps: readonly number[];
  /** Tokens each expert got [samples][layers][experts]. */
  loads: readonly (readonly Counts[])[];
}

/** A layer's loads over a run. */
export interface LayerSummary {
  /** Load over the mean, by expert and column [experts][columns]; 1 is an even share. */
  load: number[][];
  /** MaxVio of a sample, mean over each column's [columns]. */
  batchViolation: number[];
  /** MaxVio of all samples together. */
  globalViolation: number;
  /** Entropy of all samples' loads together, over that of even ones: 1 is even. */
  entropy: number;
  /** Experts by all samples' loads together, in eight bins of a quarter of the mean; the last is open. */
  histogram: number[];
}

/** Neighbouring samples in one column. */
export interface StepColumn {
  /** Its first step. */
  from: number;
  /** Its last step. */
  to: number;
}

/** A domain in a column of its own. */
export interface DomainColumn {
  /** What it is called. */
  name: string;
}

/** Loads over a run, gathered into columns. */
export interface LoadSummary<Column = StepColumn | DomainColumn> {
  /** The columns. */
  columns: Column[];
  /** The layers, in the series' order. */
  layers: LayerSummary[];
}

/**
 * Gathers loads into columns.
 * @param series - see {@link LoadSeries}
 * @param options - most `columns` (default 96)
 * @returns loads over their mean and MaxVio, column by column
 * @throws ERR_BALEEN_ROUTER_SIZES where samples differ in layers or experts, or there is none
 */
export function summarizeLoads(
  series: LoadSeries,
  options: { columns?: number } = {},
): LoadSummary<StepColumn> {
  const { steps, loads } = series;
  const samples = steps.length;
  const count = Math.min(options.columns ?? 96, samples);
  checkWhole({ samples, columns: count }, 1);
  checkLength('loads', loads, { samples });
  const layers = loads[0].length;
  const borders = Array.from({ length: count + 1 }, (_, c) => Math.floor((c * samples) / count));
  return {
    columns: Array.from({ length: count }, (_, c) => ({
      from: steps[borders[c]],
      to: steps[borders[c + 1] - 1],
    })),
    layers: Array.from({ length: layers }, (_, layer) => layerSummary(loads, layer, borders)),
  };
}

/**
 * Loads by domain instead of over time: how far each domain's tokens prefer some experts (§4.5.3, figure 9).
 * @param domains - their names
 * @param loads - tokens each expert got from each domain [layers][domains × experts], as `replayTrace` gives them
 * @returns loads over their mean and MaxVio, domain by domain
 * @throws ERR_BALEEN_ROUTER_SIZES where there is no domain, or loads do not fit
 */
export function summarizeDomains(
  domains: readonly string[],
  loads: readonly Int32Array[],
): LoadSummary<DomainColumn> {
  const count = domains.length;
  checkWhole({ domains: count, layers: loads.length }, 1);
  const experts = Math.floor(loads[0].length / count);
  loads.forEach((own, layer) => {
    checkLength(`loads[${layer}]`, own, { domains: count, experts });
  });
  const series: LoadSeries = {
    steps: domains.map((_, d) => d),
    loads: domains.map((_, d) => loads.map((own) => own.subarray(d * experts, (d + 1) * experts))),
  };
  return {
    columns: domains.map((name) => ({ name })),
    layers: summarizeLoads(series, { columns: count }).layers,
  };
}

function layerSummary(
  loads: LoadSeries['loads'],
  layer: number,
  borders: readonly number[],
): LayerSummary {
  const experts = loads[0][layer].length;
  const count = borders.length - 1;
  const load = Array.from({ length: experts }, () => new Array<number>(count).fill(0));
  const batchViolation = new Array<number>(count).fill(0);
  const total = new Float64Array(experts);
  const sums = new Float64Array(experts);
  for (let c = 0; c < count; c += 1) {
    sums.fill(0);
    for (let s = borders[c]; s < borders[c + 1]; s += 1) {
      const sample = loads[s][layer] as Counts | undefined;
      if (sample?.length !== experts)
        refuse(
          `loads[${s}][${layer}]`,
          `loads[${s}][${layer}] holds ${sample?.length ?? 0} values, expected ${experts}`,
          'give every sample the same layers and experts',
        );
      batchViolation[c] += maxViolation(sample) / (borders[c + 1] - borders[c]);
      let e = 0;
      for (const tokens of sample) sums[e++] += tokens;
    }
    const mean = sums.reduce((sum, tokens) => sum + tokens, 0) / experts;
    sums.forEach((tokens, e) => {
      load[e][c] = mean === 0 ? 1 : tokens / mean;
      total[e] += tokens;
    });
  }
  return {
    load,
    batchViolation,
    globalViolation: maxViolation(total),
    entropy: loadEntropy(total),
    histogram: [...loadHistogram(total)],
  };
}
