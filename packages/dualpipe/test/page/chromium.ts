// Opens pages in Chromium and reads their figures. Skips where there is no Chromium, and fails instead with
// BALEEN_REQUIRE_CHROMIUM=1.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { type PageOptions, schedulePage } from '@baleen/dualpipe/page';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';

import { findChromium, launchChromium, noChromium } from '../../../../scripts/chromium.mjs';
import { generateSchedule, type Method, type Simulation, simulate } from '../../src/index';

const chromium = findChromium();
if (chromium === null) {
  if (!['', '0', undefined].includes(process.env.BALEEN_REQUIRE_CHROMIUM))
    throw new Error(noChromium);
  console.log(`tests of the page skipped: ${noChromium}`);
}

/** Where and how a page is opened. */
export interface Opening {
  hash?: string;
  colorScheme?: 'light' | 'dark';
  width?: number;
}

/**
 * Tests in Chromium. After each, nothing was said in the console and nothing was asked of a network.
 * @param tests - what they are; `open` opens a page as a file
 */
export function inChromium(
  tests: (open: (options?: PageOptions, opening?: Opening) => Promise<Page>) => void,
): void {
  describe.skipIf(chromium === null)('in Chromium', () => {
    let browser: Browser;
    let folder: string;
    const said: string[] = [];
    const requests: string[] = [];

    beforeAll(async () => {
      browser = await launchChromium(chromium ?? '');
      folder = mkdtempSync(join(tmpdir(), 'baleen-page-'));
    });
    afterAll(async () => {
      await browser.close();
      rmSync(folder, { recursive: true });
    });
    afterEach(() => {
      expect(said).toEqual([]);
      // The page itself, and its icon, which is in it.
      expect(requests.filter((url) => !/^(file|data):/.test(url))).toEqual([]);
      expect(requests.filter((url) => url.startsWith('file:')).length).toBeGreaterThan(0);
      said.length = requests.length = 0;
    });

    tests(async (options = {}, { hash = '', colorScheme = 'light', width = 1280 } = {}) => {
      const path = join(folder, 'page.html');
      writeFileSync(path, schedulePage(options));
      const page = await browser.newPage({ colorScheme, viewport: { width, height: 900 } });
      page.on('console', (message) => said.push(message.text()));
      page.on('pageerror', (error) => said.push(String(error)));
      page.on('request', (request) => requests.push(request.url()));
      await page.goto(pathToFileURL(path).href + hash);
      await settled(page);
      return page;
    });
  });
}

/** Waits until a page has drawn what was asked for. */
export async function settled(page: Page): Promise<void> {
  await page.evaluate(
    () =>
      new Promise<void>((done) => {
        requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0)));
      }),
  );
}

/** Types a value into a control. */
export async function set(page: Page, name: string, value: string): Promise<void> {
  await page.locator(`#f-${name}`).fill(value);
  await settled(page);
}

/** Four digits that count, as the page writes figures. */
export const figure = (value: number): string => String(Number(value.toPrecision(4)));

/** What the page should show of a method: the library's own simulation, of the same model for every method. */
export function expected(
  method: Method,
  sizes: { ranks: number; microBatches: number },
  times: { forward: number; inputGrad: number; weightGrad: number } = {
    forward: 1,
    inputGrad: 1,
    weightGrad: 1,
  },
): Simulation {
  const schedule = generateSchedule(method, sizes);
  const share = schedule.ranks / schedule.stages;
  const { forward, inputGrad, weightGrad } = times;
  return simulate(schedule, {
    times: {
      forward: forward * share,
      inputGrad: inputGrad * share,
      weightGrad: weightGrad * share,
    },
  });
}

/** Figures of a simulation, as {@link shown} reads them. */
export function figuresOf({ total, ranks }: Simulation): Record<string, unknown> {
  return {
    total: [figure(total)],
    idle: ranks.map(({ idle }) => figure(idle)),
    bubble: ranks.map(({ idle }) => `${((100 * idle) / total).toFixed(1)} %`),
    held: ranks.map(
      ({ peakInFlight }) => expect.stringMatching(`^\\d+ of ${peakInFlight}$`) as unknown,
    ),
  };
}

/** Figures of a row as they stand on the page. */
export async function shown(page: Page, method: string): Promise<Record<string, string[]>> {
  const row = page.locator(`.row[data-method="${method}"]`);
  const ranks = row.locator('tbody tr:not(.all)');
  return {
    total: await row.locator('.facts div:has(dt:text-is("total")) dd').allTextContents(),
    idle: await ranks.locator('td.idle').allTextContents(),
    bubble: await ranks.locator('td.bubble').allTextContents(),
    held: await ranks.locator('td.held').allTextContents(),
  };
}
