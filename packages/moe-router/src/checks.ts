// What the functions on arrays refuse before they compute, and how they say so.
import { type SizeChecks, sizeChecks } from '@baleen/kernels';

const checks: SizeChecks = sizeChecks('ERR_BALEEN_ROUTER_SIZES');
/** See `SizeChecks`. */
export const refuse: SizeChecks['refuse'] = checks.refuse;
/** See `SizeChecks`. */
export const checkWhole: SizeChecks['whole'] = checks.whole;
/** See `SizeChecks`. */
export const checkLength: SizeChecks['length'] = checks.length;

/** Refuses routings that cannot be. */
export function checkRouting(sizes: {
  experts: number;
  expertsPerToken: number;
  groups: number;
  groupsPerToken: number;
}): void {
  const { experts, expertsPerToken, groups, groupsPerToken } = sizes;
  if (experts % groups !== 0)
    refuse('groups', `groups (${groups}) does not divide experts (${experts})`, 'choose a divisor');
  if (groupsPerToken > groups || groupsPerToken < 1)
    refuse(
      'groupsPerToken',
      `groupsPerToken (${groupsPerToken}) is not in 1 … ${groups}`,
      'keep at most all groups',
    );
  const reachable = (experts / groups) * groupsPerToken;
  if (expertsPerToken > reachable || expertsPerToken < 1)
    refuse(
      'expertsPerToken',
      `expertsPerToken (${expertsPerToken}) is not in 1 … ${reachable}, the experts a token can reach`,
      'lower it or keep more groups',
    );
}

/** Refuses places outside an array: kernels do not look at values, and native ones would read whatever lies there. */
export function checkPlaces(path: string, places: Int32Array, count: number, least = 0): void {
  for (let i = 0; i < places.length; i += 1)
    if (places[i] < least || places[i] >= count)
      refuse(
        `${path}[${i}]`,
        `${path}[${i}] (${places[i]}) is not in ${least} … ${count - 1}`,
        'take the arrays that routeTokens returns for the same sizes',
      );
}

/** Refuses names outside a list: what is misspelt would silently be the first. */
export function checkOneOf(path: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value))
    refuse(path, `${path} (${value}) is unknown`, `choose ${allowed.join(', ')}`);
}
