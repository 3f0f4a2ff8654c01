// `baleen loads <run or trace>`: how evenly experts were used, in numbers and as a picture.
import { statSync } from 'node:fs';

import { drawLoads, type LoadSummary, summarizeDomains, summarizeLoads } from '@baleen/moe-router';
import { drawRunLoads, runLoads } from '@baleen/trainer';
import { type Command, Option } from 'commander';

import { usageError } from '../errors';
import { table, whole } from '../format';
import type { Voice } from '../io';
import { checkPlace, writeResult } from '../output-file';
import { fact } from '../report';
import { runOf, shown } from '../run-folder';
import { addCommonFlags, examplesText } from '../shape';
import {
  addReplayFlags,
  closestPair,
  domainLines,
  isTraceFile,
  type ReplayFlags,
  replayFile,
  replayFlagNames,
} from '../trace-replay';

interface LoadsFlags extends ReplayFlags {
  out?: string;
  by?: 'step' | 'domain';
}

/** Adds arguments, flags, help and the action. */
export function define(command: Command, voice: Voice): void {
  command
    .description(
      'Show how evenly experts were used, layer by layer: MaxVio of batches and of all of them.\n' +
        'Of a run it shows what training recorded; a routing trace, which `baleen eval --trace` writes,\n' +
        'is routed again, as the model did or as flags say. --out draws every expert’s load.',
    )
    .argument('<run or trace>', 'a run folder, one of its checkpoints, or a routing trace')
    .option('--out <file>', 'draw the loads as SVG, for light and dark')
    .addOption(
      new Option(
        '--by <name>',
        'of a trace, with --out: what is drawn side by side (default: domain, where there are several)',
      ).choices(['step', 'domain']),
    );
  addReplayFlags(command);
  command.addHelpText(
    'after',
    examplesText([
      ['baleen loads runs/tiny-1', 'a line a layer'],
      ['baleen loads runs/tiny-1 --out loads.svg', 'and the picture'],
      ['baleen loads runs/tiny-1 --json', 'the numbers that it draws'],
      ['baleen loads routing.trace --out domains.svg', 'which text asks for which experts'],
      ['baleen loads routing.trace --no-bias --top-k 1', 'what the scores alone would choose'],
      ['baleen loads routing.trace --speed 0.01 --rule sign', 'what balancing would make of it'],
    ]),
  );
  addCommonFlags(command);
  command.action((path: string, flags: LoadsFlags) => {
    if (flags.out !== undefined) checkPlace('--out', flags.out);
    const target = statSync(path, { throwIfNoEntry: false });
    if (!target)
      throw usageError('RUN', `${path} does not exist`, 'name a run folder or a trace', path);
    if (target.isDirectory()) showRun(path, flags, voice);
    else if (isTraceFile(path)) showTrace(path, flags, voice);
    else
      throw usageError(
        'RUN',
        `${path} is neither a run folder nor a routing trace`,
        'name a run folder, or what `baleen eval <run> --trace <file>` wrote',
        path,
      );
  });
}

function showRun(path: string, flags: LoadsFlags, voice: Voice): void {
  const { topK, groups, groupsPerToken, rule, speed, bias, by } = flags;
  const given = [topK, groups, groupsPerToken, rule, speed, bias ? undefined : bias, by];
  const index = given.findIndex((value) => value !== undefined);
  if (index >= 0) {
    const flag = [...replayFlagNames, '--by'][index];
    throw usageError(
      'FLAG',
      `${flag} is for routing traces, and ${path} is a folder`,
      'write a trace with `baleen eval <run> --trace <file>`',
      flag,
    );
  }
  const run = runOf(path);
  const loads = runLoads(run);
  const svg = (): string => drawRunLoads(loads, `Expert load, ${shown(run)}`);
  finish({ run, ...loads }, loads, loads.steps, [], svg, flags, voice);
}

function showTrace(path: string, flags: LoadsFlags, voice: Voice): void {
  const { trace, replay } = replayFile(path, flags);
  const { domains = [] } = trace;
  const { by = domains.length > 1 ? 'domain' : 'step' } = flags;
  const summary = summarizeLoads(replay);
  const byDomain = replay.domainLoads && summarizeDomains(domains, replay.domainLoads);
  if (by === 'domain' && !byDomain)
    throw usageError('BY', `${path} has no domains`, 'leave --by out', '--by');
  const tokens = trace.batches.reduce(
    (sum, { layer, scores }) => sum + (layer === 0 ? scores.length / trace.experts : 0),
    0,
  );
  const pairs = replay.coActivation.map((own) => closestPair(own, trace.experts, tokens));
  const layers = summary.layers.map((_, index) => `MoE ${index + 1}`);
  const svg = (): string =>
    drawLoads(by === 'domain' && byDomain ? byDomain : summary, {
      title: `Expert load by ${by}, ${shown(path)}`,
      layers,
    });
  const together = pairs.flatMap((pair, index) =>
    pair
      ? [
          fact(
            index === 0 ? 'together' : '',
            `${layers[index]}: experts ${pair.experts.join(' and ')} share ${whole(pair.tokens)} tokens, × ${pair.lift.toFixed(2)} as many as by chance`,
            voice.out,
          ),
        ]
      : [],
  );
  const value = {
    trace: path,
    tokens,
    steps: replay.steps.length,
    ...summary,
    domains: byDomain && {
      names: domains,
      layers: byDomain.layers,
      loads: listed(replay.domainLoads),
    },
    coActivation: listed(replay.coActivation),
    closestPairs: pairs,
  };
  const more = [
    ...(replay.domainLoads && domains.length > 1
      ? ['', ...domainLines(domains, replay.domainLoads).map((line) => `  ${line}`)]
      : []),
    '',
    ...together,
    fact('tokens', `${whole(tokens)}, those that are only context included`, voice.out),
  ];
  finish(value, summary, replay.steps.length, more, svg, flags, voice);
}

function listed(layers: readonly Int32Array[] | null): number[][] | null {
  return layers?.map((own) => [...own]) ?? null;
}

/** Writes the picture, and says what there is. */
function finish(
  value: object,
  { layers }: LoadSummary,
  steps: number,
  more: readonly string[],
  svg: () => string,
  { out }: LoadsFlags,
  voice: Voice,
): void {
  if (out !== undefined) writeResult('--out', out, svg(), 'ERR_BALEEN_LOADS_OUT');
  voice.result({ ...value, ...(out === undefined ? {} : { out }) });
  voice.print(
    ...layerLines(layers).map((line) => `  ${line}`),
    ...(more.length > 0 ? more : ['']),
    fact('steps', whole(steps), voice.out),
    ...(out === undefined ? [] : [fact('picture', out, voice.out)]),
  );
}

function layerLines(layers: LoadSummary['layers']): string[] {
  const rows = layers.map(({ load, batchViolation, globalViolation, entropy }, index) => {
    const idlest = load.map((loads) => loads.reduce((sum, value) => sum + value, 0) / loads.length);
    return [
      `MoE ${index + 1}`,
      batchViolation[0].toFixed(2),
      (batchViolation.at(-1) ?? 0).toFixed(2),
      globalViolation.toFixed(3),
      entropy.toFixed(3),
      Math.min(...idlest).toFixed(2),
    ];
  });
  const heading = [
    'layer',
    'MaxVio at first',
    'at the end',
    'over all',
    'entropy',
    'idlest expert (× mean)',
  ];
  return table([heading, ...rows], [1, 2, 3, 4, 5]);
}
