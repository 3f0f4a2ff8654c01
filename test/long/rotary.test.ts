// Rotary tables under YaRN are those of Hugging Face transformers, for many settings and up to V3's longest sequence; the
// package's own test has two of them as a fixture.
//
// It needs Python with torch and transformers (see python.ts).
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { type RotaryCase, rotaryDifferences } from '../../packages/mla/test/rotary-cases';
import { pythonHas, runPython } from './python';

const fixtures = join(import.meta.dirname, '../../packages/mla/test/fixtures');

describe.skipIf(!pythonHas('torch', 'transformers'))('transformers', () => {
  test('gives the same tables and the same factor on scores, but for FP32’s rounding', () => {
    const cases = JSON.parse(runPython('rotary.py', [])) as RotaryCase[];
    expect(cases).toHaveLength(45);
    for (const one of cases)
      for (const [name, error] of Object.entries(rotaryDifferences(one)))
        expect(error, `${name} of ${JSON.stringify(one.yarn)}, ${one.width}`).toBeLessThan(3);
  });

  test('still gives the package’s fixture', () => {
    const script = join(fixtures, 'make_rotary_fixture.py');
    const made = JSON.parse(runPython(script, [])) as RotaryCase[];
    const kept = JSON.parse(readFileSync(join(fixtures, 'rotary.json'), 'utf8')) as RotaryCase[];
    made.forEach((one, i) => {
      const { yarn, positions, frequencies, scale } = kept[i];
      expect(one).toMatchObject({ yarn, positions, scale });
      one.frequencies.forEach((frequency, pair) => {
        expect(frequency / frequencies[pair]).toBeCloseTo(1, 6);
      });
    });
    expect(made).toHaveLength(kept.length);
  });
});
