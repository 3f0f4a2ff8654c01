// What a rank tells the others of a call, as numbers, and whether what all of them told goes together. Every rank judges
// the same numbers by the same rules, so all come to the same verdict without a word more.
import type { ElementType } from './arrays';
import type { Call } from './calls';
import type { Operation } from './traffic';

/** What ranks can meet in: the operations, and the cut of a group. */
export type Meeting = Operation | 'split';

const meetings: readonly Meeting[] = [
  'send',
  'recv',
  'broadcast',
  'allReduce',
  'reduceScatter',
  'allGather',
  'allToAll',
  'barrier',
  'split',
];
const types: readonly ElementType[] = ['f32', 'f64', 'i32', 'bf16', 'u8'];

/** Where numbers stand in a signature; after them the n + 1 offsets of pieces sent, then those of pieces received. */
export const at = { meeting: 0, type: 1, peer: 2, xLength: 3, outLength: 4, offsets: 5 } as const;

/**
 * Numbers in a signature.
 * @param size - ranks, n
 * @returns how many
 */
export function signatureLength(size: number): number {
  return at.offsets + 2 * (size + 1);
}

/**
 * Writes the signature of a call.
 * @param into - filled
 * @param call - a checked call
 * @param size - ranks, n
 */
export function writeSignature(into: Float64Array, call: Call, size: number): void {
  into[at.meeting] = meetings.indexOf(call.operation);
  into[at.type] = types.indexOf(call.type);
  into[at.peer] = call.peer;
  into[at.xLength] = call.x.length;
  into[at.outLength] = call.out.length;
  const { sendOffsets, recvOffsets } = call;
  for (let i = 0; i < sendOffsets.length; i += 1) into[at.offsets + i] = sendOffsets[i];
  for (let i = 0; i < recvOffsets.length; i += 1) into[at.offsets + size + 1 + i] = recvOffsets[i];
}

/**
 * Writes the signature of a cut.
 * @param into - filled
 * @param values - two whole numbers for the others to read: at `xLength` and `outLength`
 */
export function writeSplit(into: Float64Array, values: readonly [number, number]): void {
  into[at.meeting] = meetings.indexOf('split');
  into[at.type] = types.indexOf('u8');
  into[at.peer] = -1;
  [into[at.xLength], into[at.outLength]] = values;
}

/**
 * What a signature is of.
 * @param signature - of any call
 * @returns the operation
 */
export function meetingOf(signature: Float64Array): Meeting {
  return meetings[signature[at.meeting]];
}

/**
 * The type of its elements.
 * @param signature - of any call
 * @returns its name
 */
export function typeOfSignature(signature: Float64Array): ElementType {
  return types[signature[at.type]];
}

/** Why calls do not go together. */
export interface Disagreement {
  /** Who called what. */
  message: string;
  /** The ranks that differ from most others. */
  ranks: number[];
}

/** Ranks in words: "rank 1", "ranks 0, 2". */
function ranksInWords(ranks: readonly number[]): string {
  return `rank${ranks.length === 1 ? '' : 's'} ${ranks.join(', ')}`;
}

/**
 * Ranks of a group, with their numbers in the job where these are others.
 * @param ranks - of the group
 * @param members - ranks of the job by their rank in the group
 * @returns such as `rank 0 (rank 2 of the job)`
 */
export function membersInWords(ranks: readonly number[], members: readonly number[]): string {
  const words = ranksInWords(ranks);
  const job = ranks.map((rank) => members[rank]);
  return job.every((of, i) => of === ranks[i])
    ? words
    : `${words} (${ranksInWords(job)} of the job)`;
}

/** The ranks that say something else than most, and what each says; null where all say the same. */
function odd(
  signatures: readonly Float64Array[],
  same: (a: Float64Array, b: Float64Array) => boolean,
  say: (signature: Float64Array) => string,
): Disagreement | null {
  if (signatures.every((signature) => same(signature, signatures[0]))) return null;
  const parties: number[][] = [];
  signatures.forEach((signature, rank) => {
    const party = parties.find(([first]) => same(signatures[first], signature));
    if (party) party.push(rank);
    else parties.push([rank]);
  });
  const most = parties.reduce((a, b) => (b.length > a.length ? b : a));
  return {
    message: parties
      .map((party) => `${ranksInWords(party)} called ${say(signatures[party[0]])}`)
      .join(', '),
    ranks: parties
      .filter((party) => party !== most)
      .flat()
      .sort((a, b) => a - b),
  };
}

const sameAt =
  (...places: number[]) =>
  (a: Float64Array, b: Float64Array): boolean =>
    places.every((place) => a[place] === b[place]);

const sameOperation = sameAt(at.meeting);
const sameKind = sameAt(at.type);
const sameRoot = sameAt(at.peer);
const sameLength = sameAt(at.xLength);

/** Offsets of the pieces in a signature as sizes in words. */
function sizesInWords(signature: Float64Array, from: number, size: number): string {
  const counts = Array.from(
    { length: size },
    (_, r) => signature[from + r + 1] - signature[from + r],
  );
  return counts.length > 8 ? `${counts.slice(0, 8).join(', ')}, …` : counts.join(', ');
}

/**
 * Whether calls of all ranks go together.
 * @param signatures - one of each rank [n]
 * @returns null where they do
 */
export function disagreement(signatures: readonly Float64Array[]): Disagreement | null {
  const [first] = signatures;
  const size = signatures.length;
  const operation = meetingOf(first);
  const different = odd(signatures, sameOperation, meetingOf);
  if (different) return different;
  if (operation === 'barrier' || operation === 'split') return null;
  const named = (rest: string): string => `${operation} ${rest}`;
  const otherType = odd(signatures, sameKind, (s) => named(`of ${typeOfSignature(s)}`));
  if (otherType) return otherType;
  const pieces = (from: number): Disagreement | null =>
    odd(
      signatures,
      (a, b) => {
        for (let i = from; i <= from + size; i += 1) if (a[i] !== b[i]) return false;
        return true;
      },
      (s) => named(`with pieces of ${sizesInWords(s, from, size)} elements`),
    );
  const elements = (s: Float64Array): string => named(`of ${s[at.xLength]} elements`);
  switch (operation) {
    case 'broadcast':
      return (
        odd(signatures, sameRoot, (s) => named(`from root ${s[at.peer]}`)) ??
        odd(signatures, sameLength, elements)
      );
    case 'allReduce':
      return odd(signatures, sameLength, elements);
    case 'reduceScatter':
      return pieces(at.offsets);
    case 'allGather':
      return pieces(at.offsets + size + 1);
    default:
      return unevenExchange(signatures);
  }
}

/** The first pair of ranks of which one sends what the other does not expect. */
function unevenExchange(signatures: readonly Float64Array[]): Disagreement | null {
  const size = signatures.length;
  for (let from = 0; from < size; from += 1)
    for (let to = 0; to < size; to += 1) {
      const [sends, expects] = [at.offsets + to, at.offsets + size + 1 + from];
      const sent = signatures[from][sends + 1] - signatures[from][sends];
      const expected = signatures[to][expects + 1] - signatures[to][expects];
      if (sent !== expected)
        return {
          message: `rank ${from} called allToAll with ${sent} elements for rank ${to}, which expects ${expected}`,
          ranks: [from, to],
        };
    }
  return null;
}

/**
 * Whether a message is what its receiver waits for.
 * @param sent - signature of the send
 * @param expected - of the receive
 * @param ranks - who sends and who receives
 * @returns null where it is
 */
export function messageDisagreement(
  sent: Float64Array,
  expected: Float64Array,
  ranks: [from: number, to: number],
): Disagreement | null {
  if (sent[at.type] === expected[at.type] && sent[at.xLength] === expected[at.outLength])
    return null;
  const [from, to] = ranks;
  return {
    message:
      `rank ${from} called send of ${sent[at.xLength]} ${typeOfSignature(sent)}, ` +
      `rank ${to} called recv of ${expected[at.outLength]} ${typeOfSignature(expected)}`,
    ranks,
  };
}

/** Where the piece of a rank begins in what a signature's rank sends, and its elements. */
export function sentPiece(signature: Float64Array, rank: number): [from: number, count: number] {
  const place = at.offsets + rank;
  return [signature[place], signature[place + 1] - signature[place]];
}

/** The same of what it receives. */
export function receivedPiece(
  signature: Float64Array,
  rank: number,
  size: number,
): [from: number, count: number] {
  return sentPiece(signature, size + 1 + rank);
}
