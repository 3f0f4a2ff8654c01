// Pictures and traces: every computation is there, colours can be read, and a trace brings back what it was made from.
import { describe, expect, test } from 'vitest';

import {
  type ChromeTrace,
  drawSchedule,
  generateSchedule,
  type PhaseTimes,
  readChromeTrace,
  type Simulation,
  simulate,
  toChromeTrace,
  validateSchedule,
} from '../src/index';
import { randomSchedules } from './random';

const phases = { attention: 3, dispatch: 2, experts: 4, combine: 2 };
const phased: PhaseTimes = {
  layers: 2,
  forward: phases,
  inputGrad: phases,
  weightGrad: { attention: 1, experts: 2 },
};
const link = { bytes: 1, bandwidth: 8, latency: 0.125 };

function simulated(times: Parameters<typeof simulate>[1]['times']): Simulation {
  return simulate(generateSchedule('dualpipe', { ranks: 4, microBatches: 10 }), { times, link });
}

const unit = { forward: 1, inputGrad: 1, weightGrad: 0.75, overlap: 2.5 };

/** Relative luminance of a colour (WCAG 2). */
function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const value = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

const contrast = (a: string, b: string): number => {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
};

describe('SVG', () => {
  test('has a box for every part and a title for every computation', () => {
    const simulation = simulated(unit);
    const svg = drawSchedule(simulation, { theme: 'light', unit: 'ms' });
    const boxes = (part: string): number =>
      svg.split('</style>')[1].match(new RegExp(`class="${part}[01]"`, 'g'))?.length ?? 0;
    // 4 stages · 10 micro-batches, and two in the legend.
    for (const part of ['forward', 'inputGrad', 'weightGrad']) expect(boxes(part)).toBe(42);
    expect(svg.match(/<title>/g)).toHaveLength(validateSchedule(simulation.schedule).computations);
    expect(svg).toContain('overlap of the forward of stage 0, micro-batch 3 and the full backward');
    expect(svg).toContain(`bubble ${(100 * simulation.bubbleShare).toFixed(1)} %`);
  });

  test('boxes lie where the time is, inside of their row', () => {
    const simulation = simulated(unit);
    const svg = drawSchedule(simulation, { width: 64 + 128 + 100 * simulation.total });
    const all = [
      ...svg.matchAll(/<rect class="(\w+)[01]" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"/g),
    ];
    const drawn = all.filter(([, , , y]) => Number(y) > 60).map(([, part, x]) => `${part} ${x}`);
    for (const { computations } of simulation.ranks)
      for (const { action, start } of computations)
        if (action.kind === 'forward')
          expect(drawn).toContain(`forward ${Math.round(6400 + 10000 * start) / 100}`);
    const end = 64 + 100 * simulation.total;
    for (const [, , x, , width] of all)
      expect(Number(x) + Number(width)).toBeLessThanOrEqual(end + 0.1);
  });

  test('phases stand on two lanes', () => {
    const simulation = simulated(phased);
    const svg = drawSchedule(simulation, { theme: 'dark' });
    // 2 layers · 4 stages · 10 micro-batches · 4 phases, and the legend.
    expect(svg.match(/<rect class="forward[01]"/g)).toHaveLength(2 * 4 * 10 * 4 + 2);
    expect(svg).toContain('compute above, communication below');
  });

  test.each(['light', 'dark'] as const)('numbers can be read on every fill: %s', (theme) => {
    const svg = drawSchedule(simulated(unit), { theme });
    const fill = (name: string): string =>
      new RegExp(`\\.${name}\\{fill:(#\\w{6})`).exec(svg)?.[1] ?? '';
    for (const part of ['forward', 'inputGrad', 'weightGrad'])
      for (const shade of [0, 1])
        expect(
          contrast(fill('number'), fill(`${part}${shade}`)),
          `${part}${shade}`,
        ).toBeGreaterThan(3);
    for (const name of ['title', 'label', 'faint'])
      expect(contrast(fill(name), fill('paper')), name).toBeGreaterThan(4.5);
  });

  test('by default the viewer’s preference decides', () => {
    const svg = drawSchedule(simulated(unit));
    expect(svg).toMatch(
      /\.paper\{fill:#ffffff\}[^]*prefers-color-scheme:dark\)\{\.paper\{fill:#12161d\}/,
    );
    expect(drawSchedule(simulated(unit), { theme: 'light' })).not.toContain('@media');
  });

  test('a method’s name is text, not markup', () => {
    const simulation = simulated(unit);
    const schedule = { ...simulation.schedule, method: '<b>"&' };
    expect(drawSchedule({ ...simulation, schedule })).toContain('&lt;b&gt;&quot;&amp;');
  });
});

/** A trace with another event at a place; the first computations of rank 0 are at 4 and 5. */
function computing(trace: ChromeTrace, at: number, change: object): ChromeTrace {
  const event = { ...trace.traceEvents[at], ...change };
  return { ...trace, traceEvents: trace.traceEvents.with(at, event) };
}

describe('Chrome trace', () => {
  test('brings back schedules, times, messages and memory: 60 random ones', () => {
    for (const { schedule, random } of randomSchedules(60, 4000)) {
      const times = { forward: 0.5 + random(), inputGrad: 0.5 + random(), weightGrad: random() };
      const simulation = simulate(schedule, { times, link });
      const text = JSON.stringify(toChromeTrace(simulation));
      const back = readChromeTrace(text);
      expect(back.schedule).toEqual(schedule);
      expect(back.total).toBeCloseTo(simulation.total, 9);
      expect(back.bubbleShare).toBeCloseTo(simulation.bubbleShare, 9);
      expect(back.transfers).toHaveLength(simulation.transfers.length);
      back.ranks.forEach(({ idle, peakInFlight, memory, computations }, rank) => {
        const before = simulation.ranks[rank];
        expect(idle).toBeCloseTo(before.idle, 9);
        expect(peakInFlight).toBe(before.peakInFlight);
        expect(memory).toHaveLength(before.memory.length);
        computations.forEach(({ start, action, position }, i) => {
          expect(start).toBeCloseTo(before.computations[i].start, 9);
          expect({ action, position }).toEqual({
            action: before.computations[i].action,
            position: before.computations[i].position,
          });
        });
      });
    }
  });

  test('times in milliseconds are exact, phases and counters have lanes of their own', () => {
    const simulation = simulated(phased);
    const { traceEvents } = toChromeTrace(simulation);
    const first = traceEvents.find(({ cat }) => cat === 'compute');
    expect(first).toMatchObject({ ph: 'X', pid: 0, tid: 0, ts: 0, dur: 22_000 });
    const count = (cat: string): number => traceEvents.filter((event) => event.cat === cat).length;
    // Forward and input gradient have 4 phases a layer, the gradient of the weights 2.
    expect(count('phase')).toBe(4 * 10 * 2 * (4 + 4 + 2));
    expect(count('message')).toBe(2 * simulation.transfers.length);
    expect(traceEvents.filter(({ ph }) => ph === 'C').length).toBeGreaterThan(40);
  });

  test.each<[string, (trace: ChromeTrace) => unknown, string]>([
    ['no events', (trace) => ({ ...trace, traceEvents: null }), 'traceEvents'],
    ['no schedule', (trace) => ({ ...trace, otherData: {} }), 'otherData.schedule'],
    [
      'a rank that is none',
      (trace) => ({
        ...trace,
        traceEvents: trace.traceEvents.map((event) => ({ ...event, pid: event.pid + 9 })),
      }),
      'traceEvents[4].pid',
    ],
    ['text that is not JSON', () => '{', ''],
    [
      'an event that is none',
      (trace) => ({ ...trace, traceEvents: trace.traceEvents.with(0, 7 as never) }),
      'traceEvents[0]',
    ],
    [
      'more ranks than events',
      (trace) => ({
        ...trace,
        otherData: { ...trace.otherData, schedule: { ...trace.otherData.schedule, ranks: 1e12 } },
      }),
      'otherData.schedule.ranks',
    ],
    ['a negative time', (trace) => computing(trace, 4, { ts: -1 }), 'traceEvents[4].ts'],
    ['a time that is none', (trace) => computing(trace, 4, { ts: Infinity }), 'traceEvents[4].ts'],
    ['a negative duration', (trace) => computing(trace, 4, { dur: -1 }), 'traceEvents[4].dur'],
    [
      'an endless computation',
      (trace) => computing(trace, 4, { dur: Infinity }),
      'traceEvents[4].dur',
    ],
    [
      'two computations of a rank at once',
      (trace) => computing(trace, 4, { dur: 1500 }),
      'traceEvents[5].ts',
    ],
    [
      'everything at 0',
      (trace) => ({
        ...trace,
        traceEvents: trace.traceEvents.map((event) => ({ ...event, ts: 0 })),
      }),
      'traceEvents[5].ts',
    ],
  ])('%s', (_, spoil, path) => {
    const trace = toChromeTrace(simulated(unit));
    expect(() => readChromeTrace(spoil(trace))).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_TRACE', path }),
    );
  });

  test('a trace can be drawn', () => {
    const simulation = simulated(unit);
    const back = readChromeTrace(toChromeTrace(simulation));
    expect(drawSchedule(back)).toContain(`total ${Number(simulation.total.toPrecision(4))}`);
  });
});
