// Random numbers stay what they are: seeds, resumed runs and published results stand on them.
import { expect, test } from 'vitest';

import { mulberry32 } from '../src/index';

test.each([
  [0, [1144304738, 1416247, 958946056, 627933444]],
  [1, [2693262067, 11749833, 2265367787, 4213581821]],
  [-1, [3850105811, 813802916, 3073704848, 4054706436]],
  [2 ** 32 - 1, [3850105811, 813802916, 3073704848, 4054706436]],
  [123456789, [1107202814, 4169434471, 3372958138, 885470128]],
])('mulberry32 from seed %i', (seed, expected) => {
  const random = mulberry32(seed);
  expect(expected.map(random)).toEqual(expected.map((bits) => bits / 2 ** 32));
});

test('mulberry32 is spread evenly over [0, 1), and every stream has its own place', () => {
  const random = mulberry32(3);
  const counts = new Array<number>(10).fill(0);
  for (let i = 0; i < 100_000; i += 1) counts[Math.floor(10 * random())] += 1;
  // 10,000 ± 5 standard deviations.
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(5 * Math.sqrt(9000));
  const [one, other] = [mulberry32(3), mulberry32(3)];
  one();
  expect(one()).not.toBe(other());
});
