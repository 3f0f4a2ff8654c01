// Finds the Chromium that tests and measurements of pages run in: BALEEN_CHROMIUM, or what the system has.
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

import { chromium } from 'playwright-core';

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** What a run without one says. */
export const noChromium = 'Chromium is not installed (apt-get install chromium)';

/**
 * @returns {string | null} the path of Chromium; null where there is none
 */
export function findChromium() {
  const { BALEEN_CHROMIUM, PATH = '' } = process.env;
  if (BALEEN_CHROMIUM) return BALEEN_CHROMIUM;
  const places = names.flatMap((name) => PATH.split(delimiter).map((folder) => join(folder, name)));
  return (
    places.find((place) => {
      try {
        accessSync(place, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    }) ?? null
  );
}

/**
 * Starts it, with nothing that talks to a network by itself.
 * @param {string} executablePath - as found
 * @param {string[]} more - further switches
 */
export function launchChromium(executablePath, more = []) {
  return chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...more,
    ],
  });
}
