// The expert loads of a run, from the events it wrote: as numbers, and as a picture of the same numbers.
import { drawLoads, type LoadSummary, summarizeLoads } from '@baleen/moe-router';

import type { StepEvent } from './events';
import { readMetrics } from './run-folder';

/** Expert loads of a run. */
export interface RunLoads extends LoadSummary {
  /** Steps with loads. */
  steps: number;
}

/**
 * Reads what loads the experts of a run had.
 * @param run - the run's folder
 * @param options - most `columns` that steps are gathered into (default 96)
 * @returns loads over the mean and MaxVio by column, layer by layer of those with experts
 * @throws `ERR_BALEEN_DATA_LOADS` where the run has no steps with experts
 */
export function runLoads(run: string, options: { columns?: number } = {}): RunLoads {
  // Runs from before loads were written have none.
  const events = readMetrics(run).filter(
    (event): event is StepEvent =>
      event.type === 'step' && ((event as Partial<StepEvent>).loads ?? []).length > 0,
  );
  if (events.length === 0)
    throw Object.assign(new Error(`${run} has no steps with expert loads`), {
      code: 'ERR_BALEEN_DATA_LOADS',
      path: run,
      hint: 'name a run folder whose model has experts, and that has trained a step',
    });
  const series = { steps: events.map(({ step }) => step), loads: events.map(({ loads }) => loads) };
  return { steps: events.length, ...summarizeLoads(series, options) };
}

/**
 * Draws them.
 * @param loads - from {@link runLoads}
 * @param title - what stands above the picture
 * @returns an SVG document, for light and dark
 */
export function drawRunLoads(loads: RunLoads, title: string): string {
  return drawLoads(loads, {
    title,
    layers: loads.layers.map((_, index) => `MoE ${index + 1}`),
  });
}
