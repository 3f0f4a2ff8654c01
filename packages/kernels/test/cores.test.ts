// Threads of a process that shares its machine with other ranks.
import { expect, test } from 'vitest';

import { threadShare } from '../src/native/cores';

test('a process by itself takes the cores it may run on, up to 64', () => {
  expect(threadShare({ all: 8, allowed: 8, env: {} })).toBe(8);
  expect(threadShare({ all: 8, allowed: 3, env: {} })).toBe(3);
  expect(threadShare({ all: 192, allowed: 192, env: {} })).toBe(64);
});

test.each([
  ['OMPI_COMM_WORLD_LOCAL_SIZE', '4', 2],
  ['MPI_LOCALNRANKS', '3', 2],
  ['SLURM_STEP_TASKS_PER_NODE', '2(x3)', 4],
  ['SLURM_STEP_TASKS_PER_NODE', '8,7', 1],
  ['OMPI_COMM_WORLD_LOCAL_SIZE', '100', 1],
  ['OMPI_COMM_WORLD_LOCAL_SIZE', 'many', 8],
])('beside other ranks (%s=%s) it takes its share', (name, value, threads) => {
  expect(threadShare({ all: 8, allowed: 8, env: { [name]: value } })).toBe(threads);
});

test('a rank bound to its cores keeps them', () => {
  const env = { OMPI_COMM_WORLD_LOCAL_SIZE: '4' };
  expect(threadShare({ all: 8, allowed: 2, env })).toBe(2);
});
