// Colours of the parts of a computation, for light and dark backgrounds, shared by the SVG picture and the page. Numbers stand
// out from every fill by 3 : 1 at least (WCAG 2), words from the paper by 4.5 : 1.
import type { Part } from './schedule';

/** A background. */
export type Theme = 'light' | 'dark';

/** Fills of each part: of a rank's first stage, and of its second. */
export const fills: Readonly<Record<Theme, Readonly<Record<Part, readonly [string, string]>>>> = {
  light: {
    forward: ['#f6c86b', '#e79c3c'],
    inputGrad: ['#8fd0a8', '#4fae7a'],
    weightGrad: ['#a9c4ee', '#7a9fe0'],
  },
  dark: {
    forward: ['#b3771c', '#8f5b0e'],
    inputGrad: ['#368459', '#246646'],
    weightGrad: ['#4f74b8', '#3d5e9c'],
  },
};

/** The background and what is written on it; `ink` is for numbers on fills. */
export const inks = {
  light: { paper: '#ffffff', text: '#1c2430', faint: '#657184', line: '#d7dce4', ink: '#14181f' },
  dark: { paper: '#12161d', text: '#e6eaf0', faint: '#96a2b4', line: '#2b3340', ink: '#ffffff' },
} as const;

/** Parts, in the order of legends. */
export const parts = ['forward', 'inputGrad', 'weightGrad'] as const;
