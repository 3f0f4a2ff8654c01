// The lab of node-limited routing: tokens followed one by one, and verdicts that can come out either way.
import { dispatchTraffic } from '@baleen/comm';
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { expect, test } from 'vitest';

import { runLab } from '../src/index';
import { type NodeLimitedSettings, nodeLimited } from '../src/labs/node-limited';
import { type GateArm, routeArms } from '../src/labs/routed-arms';

const kernels = loadKernels();
const arm = (nodes: number, limit: number, expertsPerToken = 4): GateArm => ({
  nodes,
  groups: nodes,
  limit,
  expertsPerToken,
});

test('a limit keeps every token to so many nodes, and none that is not there', async () => {
  const sizes = { tokens: 64, experts: 64 };
  const arms = [arm(4, 4), arm(4, 2), arm(4, 1), { ...arm(4, 1), groups: 2 }];
  const routed = await routeArms(arms, sizes, 77, { kernels });
  expect(routed.map(({ mostNodes }) => mostNodes)).toEqual([4, 2, 1, 2]);
  for (const { layouts, nodesPerToken, ranksPerToken } of routed) {
    expect(layouts).toHaveLength(32);
    const sum = (of: 'tokensPerNode' | 'tokensPerRank'): number =>
      layouts.flatMap((layout) => [...layout[of]]).reduce((a, b) => a + b, 0);
    expect(nodesPerToken).toBe(sum('tokensPerNode') / (32 * 64));
    expect(ranksPerToken).toBe(sum('tokensPerRank') / (32 * 64));
  }
  expect(routed[2].nodesPerToken).toBe(1);
  // On one node of a token's choice, a copy a node leaves the own node three times in four.
  const { layouts, topology } = routed[2];
  const { between } = dispatchTraffic(layouts, topology, { copies: 'node', bytes: 1 });
  const crossed = between.sent.reduce((a, b) => a + b, 0) / (32 * 64);
  expect(crossed).toBeCloseTo(0.75, 1);
});

test('a rank has the same scores in every arm and on every kernel', async () => {
  const sizes = { tokens: 8, experts: 64 };
  const [small, large] = await routeArms([arm(1, 1), arm(2, 2)], sizes, 3, { kernels });
  expect(large.layouts[0].tokensPerExpert).toEqual(small.layouts[0].tokensPerExpert);
  const [again] = await routeArms([arm(1, 1)], sizes, 3, { kernels: referenceKernels() });
  expect(again.layouts).toEqual(small.layouts);
  const [other] = await routeArms([arm(1, 1)], sizes, 4, { kernels });
  expect(other.layouts).not.toEqual(small.layouts);
});

/** The lab at a size for tests. */
const settings: NodeLimitedSettings = {
  ...nodeLimited.settings.quick,
  seeds: 2,
  tokens: 16,
  sweep: [8, 13, 24],
  wide: { ...arm(4, 1, 8), groups: 2 },
  beside: [arm(2, 2)],
};
const run = (own: NodeLimitedSettings) =>
  runLab({ ...nodeLimited, settings: { quick: own, full: own } }, { kernels, seed: 1000 });

test('every arm has its rows, and every claim its verdict', async () => {
  const { result, rows, notes } = await run(settings);
  expect(rows).toHaveLength(3 * 4 + 2);
  expect(result.further?.map(({ published }) => published)).toEqual([4, 3.2, 1]);
  expect(result.n).toBe(2);
  expect(notes.join('\n')).toMatch(/2 groups on 4 nodes.* up to 2\n/);
  const limited = rows.filter(({ groups, nodes }) => groups === '4 of 8' && nodes === 8);
  const bytesOf = (copies: string): number =>
    Number(
      limited.find((row) => row['a copy for each'] === copies && row.experts === 8)?.[
        'KB between nodes a token'
      ],
    );
  expect(bytesOf('node')).toBeLessThan(bytesOf('rank'));
  expect(bytesOf('rank')).toBeLessThan(bytesOf('expert'));
  // 7 of 8 experts are on another node, and each copy has 7392 bytes.
  expect(bytesOf('expert') / (8 * 0.875 * 7.392)).toBeCloseTo(1, 1);
});

test('other settings, other verdicts', async () => {
  // Without a limit a token goes to more than four nodes, and saves less than half.
  const { v3 } = settings;
  const free = await run({ ...settings, v3: { ...v3, limit: 8 } });
  expect(free.result.verdict).toBe('fails');
  expect(free.result.further?.[0].verdict).toBe('fails');
  // Many more experts make NVLink the busier link, and take longer.
  const many = await run({ ...settings, more: 64, sweep: [8, 64] });
  expect(many.result.further?.slice(1).map(({ verdict }) => verdict)).toEqual(['fails', 'fails']);
});
