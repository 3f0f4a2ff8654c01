// How the page looks and what it costs in Chromium: light and dark, narrow and wide, names for every control, and work that
// does not grow with what cannot be seen.
import { expect, test } from 'vitest';

import { generateSchedule, validateSchedule } from '../../src/index';
import { expected, figuresOf, inChromium, set, settled, shown } from './chromium';

inChromium((open) => {
  test('16 ranks and 240 micro-batches: as many elements as for 12, no box drawn that is not seen, one drawing a frame', async () => {
    const sizes = { ranks: 16, microBatches: 240 };
    const page = await open({ methods: ['dualpipe', '1f1b'], ranks: 16, microBatches: 32 });
    const elements = (): Promise<number> =>
      page.evaluate(() => document.querySelectorAll('*').length);
    const few = await elements();
    await set(page, 'micro-batches', '240');
    expect(await elements()).toBe(few);
    expect(await shown(page, 'dualpipe')).toEqual(figuresOf(expected('dualpipe', sizes)));
    const picture = page.locator('canvas.picture').first();
    const count = async (name: string): Promise<number> =>
      Number(await picture.getAttribute(`data-${name}`));
    // 32 stages · 240 micro-batches · 3 parts, on a picture of a thousand columns.
    const { computations } = validateSchedule(generateSchedule('dualpipe', sizes));
    expect((await count('boxes')) + (await count('averaged'))).toBe(3 * 16 * 240);
    expect(await count('averaged')).toBeGreaterThan(computations);
    // Twenty turns of the wheel in one frame are one drawing.
    const draws = await count('draws');
    await page
      .locator('.stage')
      .first()
      .evaluate((stage) => {
        for (let i = 0; i < 20; i += 1)
          stage.dispatchEvent(
            new WheelEvent('wheel', {
              deltaY: -120,
              ctrlKey: true,
              clientX: 600,
              cancelable: true,
            }),
          );
      });
    await settled(page);
    expect(await count('draws')).toBe(draws + 1);
    expect(await count('averaged')).toBe(0);
    expect(await count('boxes')).toBeLessThan(1200);
    // A step leaves the picture as it is.
    await page.keyboard.press('ArrowRight');
    await settled(page);
    const stepped = await count('draws');
    expect(stepped).toBeLessThanOrEqual(draws + 2);
    await page.keyboard.press('ArrowRight');
    await settled(page);
    expect(await count('draws')).toBe(stepped);
    await page.close();
  });

  test('a row off the screen is drawn when it comes on it, or for paper', async () => {
    const methods = ['dualpipe', 'zb1p', '1f1b', 'gpipe'] as const;
    const page = await open({ methods, ranks: 16, microBatches: 32 });
    const draws = async (row: number): Promise<number> =>
      Number(await page.locator('canvas.picture').nth(row).getAttribute('data-draws'));
    await settled(page);
    const before = [await draws(0), await draws(3)];
    await page.getByRole('button', { name: 'Show less of the time, larger' }).click();
    await settled(page);
    expect([await draws(0), await draws(3)]).toEqual([before[0] + 1, before[1]]);
    await page.evaluate(() => window.dispatchEvent(new Event('beforeprint')));
    const printed = await draws(3);
    expect(printed).toBe(before[1] + 1);
    await page.locator('.stage').nth(3).scrollIntoViewIfNeeded();
    await expect.poll(() => draws(3)).toBeGreaterThan(printed);
    await page.close();
  });

  test('light and dark follow the viewer: the same picture in other colours, words that can be read', async () => {
    const paper: string[] = [];
    const pixels: string[] = [];
    for (const colorScheme of ['light', 'dark'] as const) {
      const page = await open({ methods: ['dualpipe'] }, { colorScheme });
      paper.push(
        await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor),
      );
      // A forward of the first stage at the left edge of rank 0, under its number.
      pixels.push(
        await page
          .locator('canvas.picture')
          .evaluate((canvas: HTMLCanvasElement) =>
            [...(canvas.getContext('2d')?.getImageData(3, 3, 1, 1).data ?? [])].join(' '),
          ),
      );
      expect(await page.evaluate(lowestContrast), colorScheme).toBeGreaterThanOrEqual(4.5);
      const before = await page.screenshot();
      await page.emulateMedia({ colorScheme: colorScheme === 'light' ? 'dark' : 'light' });
      await settled(page);
      expect((await page.screenshot()).equals(before)).toBe(false);
      await page.close();
    }
    expect(paper).toEqual(['rgb(255, 255, 255)', 'rgb(18, 22, 29)']);
    expect(pixels).toEqual(['246 200 107 255', '179 119 28 255']);
  });

  test.each([360, 1600])('%i pixels wide: nothing lies beside the page', async (width) => {
    const page = await open({ methods: ['dualpipe', 'interleaved'], microBatches: 24 }, { width });
    await page.locator('#settings').evaluate((settings: HTMLDetailsElement) => {
      settings.open = true;
    });
    await settled(page);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(
      width,
    );
    expect((await page.locator('.stage').first().boundingBox())?.width).toBeGreaterThan(
      width / 2.5,
    );
    await page.close();
  });

  test('every control has a name, and the timeline says what it is', async () => {
    const page = await open();
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll<HTMLElement>('button, input, select, [tabindex]')]
        .filter((element) => {
          const labels = 'labels' in element ? (element as HTMLInputElement).labels : null;
          const name = element.getAttribute('aria-label') ?? element.textContent.trim();
          return name === '' && (labels?.length ?? 0) === 0;
        })
        .map(({ outerHTML }) => outerHTML),
    );
    expect(nameless).toEqual([]);
    expect(await page.getByRole('application', { name: 'Timeline of DualPipe' }).count()).toBe(1);
    expect(await page.locator('#words').getAttribute('aria-live')).toBe('polite');
    // All of it can be reached by the Tab key.
    const reached = new Set<string>();
    for (let i = 0; i < 60; i += 1) {
      await page.keyboard.press('Tab');
      reached.add(
        await page.evaluate(
          () => document.activeElement?.id ?? document.activeElement?.className ?? '',
        ),
      );
    }
    for (const name of ['f-ranks', 'semantics', 'zoom-in', 'add', 'forth', 'time'])
      expect([...reached]).toContain(name);
    await page.close();
  });
});

/** The lowest contrast of words on the page's paper or on what they stand on (WCAG 2). Runs in the page. */
function lowestContrast(): number {
  const luminance = (colour: string): number => {
    const [r, g, b] = (colour.match(/[\d.]+/g) ?? []).map((part) => {
      const value = Number(part) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element: Element | null): string => {
    for (let each = element; each; each = each.parentElement) {
      const { backgroundColor } = getComputedStyle(each);
      if (!backgroundColor.endsWith(', 0)')) return backgroundColor;
    }
    return 'rgb(255, 255, 255)';
  };
  let lowest = Infinity;
  for (const element of document.querySelectorAll(
    'h1, h2, p, dt, dd, th, td, label, legend, b, span, li, summary',
  ))
    if (element.textContent.trim() !== '' && element.getClientRects().length > 0) {
      const [dark, light] = [
        luminance(getComputedStyle(element).color),
        luminance(ground(element)),
      ].sort((a, b) => a - b);
      lowest = Math.min(lowest, (light + 0.05) / (dark + 0.05));
    }
  return lowest;
}
