// `baleen bench`: this machine at the work of training and generation: by kernel, by step, by token and between ranks.
import type { Command } from 'commander';

import { defineComm } from '../bench-comm';
import { defineDecode } from '../bench-decode';
import { defineKernels } from '../bench-kernels';
import { defineStep } from '../bench-step';
import type { Voice } from '../io';
import { addCommonFlags } from '../shape';

/** Adds the subcommands. */
export function define(command: Command, voice: Voice): void {
  command.description('Measure this machine at the work of training and generation.');
  // Also before the subcommand, and when it is missing.
  addCommonFlags(command);
  defineStep(command, voice);
  defineKernels(command, voice);
  defineDecode(command, voice);
  defineComm(command, voice);
}
