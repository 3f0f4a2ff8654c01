// Follows a run's events: says what begins, keeps the live line, notes evaluations and checkpoints.
import { describeKernels } from '@baleen/kernels';
import {
  presetDescriptions,
  type StartEvent,
  type StepEvent,
  type StoppedEvent,
  type TrainEvent,
  type TrainResult,
} from '@baleen/trainer';

import { internalError } from './errors';
import { balance, bytes, clock, count, duration, whole } from './format';
import type { Voice } from './io';
import { kernelLines } from './kernel-report';
import { openProgress, type Progress, paced } from './progress';
import { fact, layoutText } from './report';
import { shown } from './run-folder';
import { isPreset, type Settings } from './settings';

/** How a run went. */
export interface Watched {
  /** Its result. */
  result: TrainResult;
  /** How it began. */
  start: StartEvent;
  /** When it was stopped early. */
  stopped: StoppedEvent | null;
}

/**
 * Runs the training while showing it.
 * @param begin - calls `train()`, and has it tell how far an evaluation is
 * @param settings - what is trained
 * @param voice - where to show it
 * @param signal - aborted by the first Ctrl-C
 * @returns the run's result
 */
export async function watch(
  begin: (onEvaluation: (share: number) => void) => AsyncGenerator<TrainEvent, TrainResult, void>,
  settings: Settings,
  voice: Voice,
  signal: AbortSignal,
): Promise<Watched> {
  const progress = await openProgress(voice);
  let start: StartEvent | null = null;
  const scored = paced(progress, 'scoring held-out text');
  const events = begin((share) => {
    if (!signal.aborted) scored(share);
  });
  let stopped: StoppedEvent | null = null;
  const interrupted = (): void => {
    progress.stop();
    voice.say(
      start === null
        ? '  Stopping before the first step.'
        : '  Stopping after this step and saving. Ctrl-C again stops at once.',
    );
  };
  signal.addEventListener('abort', interrupted, { once: true });
  if (settings.preset !== null && isPreset(settings.preset) && settings.resumed === null)
    voice.say('', `${voice.err.bold(settings.preset)}: ${presetDescriptions[settings.preset]}`);
  const { data } = settings.config;
  const prepared =
    data.tokenizer.kind === 'bpe' && settings.resumed === null ? 'a tokenizer and ' : '';
  voice.say(voice.err.dim(`Reading ${data.sources.join(', ')}, making ${prepared}n-gram models …`));
  try {
    for (;;) {
      const next = await events.next();
      if (next.done) {
        if (start === null) throw internalError('the run ended before its event "start"');
        return { result: next.value, start, stopped };
      }
      const event = next.value;
      if (event.type === 'start') {
        start = event;
        voice.say(...opening(event, settings, voice), '');
      } else if (event.type === 'stopped') stopped = event;
      else if (!signal.aborted && start !== null) show(event, start, progress);
    }
  } finally {
    signal.removeEventListener('abort', interrupted);
    progress.stop();
  }
}

function show(event: TrainEvent, start: StartEvent, progress: Progress): void {
  switch (event.type) {
    case 'step':
      progress.update({
        share: event.step / start.steps,
        parts: stepParts(event, start.steps),
        left: clock(event.secondsLeft),
      });
      break;
    case 'evaluation':
      progress.note(
        `step ${whole(event.step)}: ${event.bitsPerByte.toFixed(3)} bits per byte on held-out text`,
      );
      break;
    case 'slow':
      progress.note(
        `step ${whole(event.step)}: the others wait for rank ${event.rank}, which computes ${(event.computed / event.others).toFixed(1)} times as long as they do (${duration(event.computed)} a step)`,
      );
      break;
    case 'restart': {
      const from = event.step === 0 ? 'from the start' : `after step ${whole(event.step)}`;
      progress.note(
        `lost in step ${whole(event.reached + 1)}: ${event.reason}; going on ${from} (restart ${event.restart} of ${event.of})`,
      );
      break;
    }
    default:
  }
}

/** The parts of the live line, most important first. */
function stepParts(event: StepEvent, steps: number): string[] {
  return [
    `step ${String(event.step).padStart(String(steps).length)}/${steps}`,
    `loss ${event.loss.toFixed(3)}`,
    `${whole(event.tokensPerSecond).padStart(6)} tokens/s`,
    `busiest expert ${balance(event.maxViolation)}`,
  ];
}

/** What is about to happen. */
function opening(start: StartEvent, { config, preset }: Settings, voice: Voice): string[] {
  const { bold } = voice.err;
  const tokens = start.steps * start.tokensPerStep;
  const what = preset === null ? 'a model' : `preset ${preset}`;
  const lines = [
    '',
    bold(
      start.resumedFrom === null
        ? `Training ${what}: ${count(start.params)} parameters, ${count(start.activeParams)} active for a token`
        : `Resuming ${what} after step ${whole(start.resumedFrom)}: ${count(start.params)} parameters`,
    ),
    fact(
      'text',
      `${config.data.sources.join(', ')}: ${bytes(start.trainBytes)} to learn from, ${bytes(start.heldOutBytes)} held out`,
      voice.err,
    ),
    fact(
      'plan',
      `${whole(start.steps)} steps of ${whole(start.tokensPerStep)} tokens in ${start.precision}, ${(tokens / start.trainTokens).toFixed(1)} times through the text`,
      voice.err,
    ),
  ];
  // Ranks have threads of their own.
  const kernels = { ...describeKernels(), threads: start.kernels.threads };
  kernelLines(kernels).forEach((text, index) => {
    lines.push(fact(index === 0 ? 'kernels' : '', text, voice.err));
  });
  if (start.layout.ranks > 1) lines.push(fact('ranks', layoutText(start.layout), voice.err));
  if (start.run !== null)
    lines.push(fact('run', `${shown(start.run)} (Ctrl-C finishes the step and saves)`, voice.err));
  return lines;
}
