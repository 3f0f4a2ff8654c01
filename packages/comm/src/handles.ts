// Handles of calls that have ended already.
import type { Handle } from './communicator';

/** A call that has done its work. */
export const endedHandle: Handle = { done: Promise.resolve(), wait: () => undefined };

/**
 * A call that failed.
 * @param error - how
 * @returns its handle
 */
export function failedHandle(error: Error): Handle {
  return {
    // Made when it is asked for: a promise that nobody looks at must not end the process.
    get done() {
      return Promise.reject(error);
    },
    wait: () => {
      throw error;
    },
  };
}
