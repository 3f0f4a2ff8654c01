// Runs under layouts, and what of them must not depend on the layout.
import {
  type TrainConfig,
  type TrainEvent,
  type TrainOptions,
  type TrainResult,
  train,
} from '../src/index';

/** Runs to the end, on ranks as the layout says. */
export async function runAll(
  config: TrainConfig,
  options: TrainOptions = {},
): Promise<{ events: TrainEvent[]; result: TrainResult }> {
  const events: TrainEvent[] = [];
  const run = train(config, options);
  for (;;) {
    const next = await run.next();
    if (next.done) return { events, result: next.value };
    events.push(next.value);
  }
}

/** What must not depend on the layout. */
export function said(events: readonly TrainEvent[]): unknown[] {
  return events.flatMap((event): unknown[] => {
    if (event.type === 'step') {
      const { step, loss, mtpLoss, balanceLoss, gradNorm, maxViolation, loads } = event;
      return [{ step, loss, mtpLoss, balanceLoss, gradNorm, maxViolation, loads }];
    }
    if (event.type !== 'evaluation') return [];
    const { step, loss, bitsPerByte, accuracy, mtp, maxViolation, loads } = event;
    return [{ step, loss, bitsPerByte, accuracy, mtp, maxViolation, loads }];
  });
}
