// Which task carries out a call.
import { Meeting } from './meeting';
import { Message } from './message';
import type { Memory, Place } from './place';
import type { Order, Task } from './task';

/**
 * The task of an order.
 * @param place - on which group
 * @param order - what is called
 * @param x - this rank's memory that is read
 * @param out - and that is written
 * @returns a task that has not begun
 */
export function taskOf(place: Place, order: Order, x: Memory, out: Memory): Task {
  return order.row === 'meeting'
    ? new Meeting(place, order, x, out)
    : new Message(place, order, x, out);
}
