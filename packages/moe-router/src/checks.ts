// What the functions on arrays refuse before they compute, and how they say so.

function refuse(path: string, message: string, hint: string): never {
  throw Object.assign(new Error(message), { code: 'ERR_BALEEN_ROUTER_SIZES', path, hint });
}

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

/** Refuses sizes that are not whole numbers from `least`. */
export function checkWhole(sizes: Readonly<Record<string, number>>, least: 0 | 1): void {
  for (const [path, value] of Object.entries(sizes))
    if (!Number.isInteger(value) || value < least)
      refuse(path, `${path} (${value}) is not a whole number from ${least}`, `count from ${least}`);
}

/**
 * Refuses an array of another length than its shape's.
 * @param path - what it is to the caller
 * @param array - the array
 * @param shape - its axes by name and size, outermost first
 */
export function checkLength(
  path: string,
  array: { readonly length: number },
  shape: Readonly<Record<string, number>>,
): void {
  const sizes = Object.values(shape);
  const expected = sizes.reduce((product, size) => product * size, 1);
  if (array.length !== expected)
    refuse(
      path,
      `${path} holds ${array.length} values, expected ${expected} (${sizes.join(' · ')})`,
      `${path} is [${Object.keys(shape).join(', ')}]`,
    );
}

/** Refuses places outside an array: kernels do not look at values, and native ones would read whatever lies there. */
export function checkPlaces(path: string, places: Int32Array, count: number): void {
  for (let i = 0; i < places.length; i += 1)
    if (places[i] < 0 || places[i] >= count)
      refuse(
        `${path}[${i}]`,
        `${path}[${i}] (${places[i]}) is not in 0 … ${count - 1}`,
        'take the arrays that routeTokens returns for the same sizes',
      );
}
