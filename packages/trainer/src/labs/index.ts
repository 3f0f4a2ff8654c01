// All labs, by name.
import { dualpipeBubble } from './dualpipe-bubble';
import { dualpipeOverlap } from './dualpipe-overlap';
import { fp8Accumulation } from './fp8-accumulation';
import { fp8DgradBlocks } from './fp8-dgrad-blocks';
import { fp8Loss } from './fp8-loss';
import { fp8Memory } from './fp8-memory';
import { kvCache } from './kv-cache';
import type { Lab } from './lab';
import { longContext } from './long-context';
import { lossFree } from './loss-free';
import { lossFreeUpdates } from './loss-free-updates';
import { mtp } from './mtp';
import { nodeLimited } from './node-limited';
import { routerCollapse } from './router-collapse';

/** Every lab, in the order they are listed. */
export const labs: readonly Lab[] = [
  fp8Loss,
  fp8DgradBlocks,
  fp8Accumulation,
  fp8Memory,
  lossFree,
  lossFreeUpdates,
  routerCollapse,
  dualpipeBubble,
  dualpipeOverlap,
  nodeLimited,
  kvCache,
  mtp,
  longContext,
];
