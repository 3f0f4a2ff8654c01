// `baleen loads <run>`: how evenly a run's experts were used, in numbers and as a picture.
import { drawRunLoads, type RunLoads, runLoads } from '@baleen/trainer';
import type { Command } from 'commander';

import { table, whole } from '../format';
import type { Voice } from '../io';
import { checkPlace, writeResult } from '../output-file';
import { fact } from '../report';
import { runOf, shown } from '../run-folder';
import { addCommonFlags, examplesText } from '../shape';

interface LoadsFlags {
  out?: string;
}

/** Adds arguments, flags, help and the action. */
export function define(command: Command, voice: Voice): void {
  command
    .description(
      'Show how evenly a run used its experts: MaxVio of batches and of the whole run, layer by layer.\n' +
        '--out draws every expert’s load over the run.',
    )
    .argument('<run>', 'a run folder, or one of its checkpoints')
    .option('--out <file>', 'draw the loads as SVG, for light and dark')
    .addHelpText(
      'after',
      examplesText([
        ['baleen loads runs/tiny-1', 'a line a layer'],
        ['baleen loads runs/tiny-1 --out loads.svg', 'and the picture'],
        ['baleen loads runs/tiny-1 --json', 'the numbers that it draws'],
      ]),
    );
  addCommonFlags(command);
  command.action((path: string, flags: LoadsFlags) => {
    show(runOf(path), flags, voice);
  });
}

function show(run: string, { out }: LoadsFlags, voice: Voice): void {
  if (out !== undefined) checkPlace('--out', out);
  const loads = runLoads(run);
  if (out !== undefined) {
    const svg = drawRunLoads(loads, `Expert load, ${shown(run)}`);
    writeResult('--out', out, svg, 'ERR_BALEEN_LOADS_OUT');
  }
  voice.result({ run, ...loads, ...(out === undefined ? {} : { out }) });
  voice.print(
    ...layerLines(loads).map((line) => `  ${line}`),
    '',
    fact('steps', whole(loads.steps), voice.out),
    ...(out === undefined ? [] : [fact('picture', out, voice.out)]),
  );
}

function layerLines({ layers }: RunLoads): string[] {
  const rows = layers.map(({ load, batchViolation, globalViolation }, index) => {
    const idlest = load.map((loads) => loads.reduce((sum, value) => sum + value, 0) / loads.length);
    return [
      `MoE ${index + 1}`,
      batchViolation[0].toFixed(2),
      (batchViolation.at(-1) ?? 0).toFixed(2),
      globalViolation.toFixed(3),
      Math.min(...idlest).toFixed(2),
    ];
  });
  const heading = ['layer', 'MaxVio at first', 'at the end', 'over the run', 'idlest expert'];
  return table([heading, ...rows], [1, 2, 3, 4]);
}
