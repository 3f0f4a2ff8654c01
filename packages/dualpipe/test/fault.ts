// What a schedule is refused with.
import { type Action, type Message, type Schedule, validateSchedule } from '../src/index';

/** The error that a schedule is refused with; null where it is not. */
export function fault(
  schedule: Schedule,
  semantics: 'rendezvous' | 'buffered' = 'rendezvous',
): { code: string; path: string; message: string; hint: string } | null {
  try {
    validateSchedule(schedule, { semantics });
    return null;
  } catch (error) {
    return error as { code: string; path: string; message: string; hint: string };
  }
}

/** Whether an action is one end of a message. */
export const isMessage = (action: Action): action is Message =>
  action.kind === 'send' || action.kind === 'receive';
