// What functions on arrays refuse before they compute, and how they say so.
import { type SizeChecks, sizeChecks } from '@baleen/kernels';

const checks: SizeChecks = sizeChecks('ERR_BALEEN_COMM_SIZES');
/** See `SizeChecks`. */
export const refuse: SizeChecks['refuse'] = checks.refuse;
/** See `SizeChecks`. */
export const checkWhole: SizeChecks['whole'] = checks.whole;
/** See `SizeChecks`. */
export const checkLength: SizeChecks['length'] = checks.length;
