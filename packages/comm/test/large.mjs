// More bytes in one call than 32 bits count, signed or not.
const bytes = 2 ** 32 - 2 ** 12;
const step = 2 ** 20 + 1;

/**
 * Sends an array of almost 4 GiB from rank 0 to rank 1, and gives it back by a broadcast.
 * @param communicator - of two ranks
 * @returns whether everything came
 */
export default function run(communicator) {
  const { rank } = communicator;
  const x = new Uint8Array(new SharedArrayBuffer(bytes));
  const value = (i) => (i / step) % 251;
  if (rank === 0) {
    for (let i = 0; i < bytes; i += step) x[i] = value(i) + 1;
    x[bytes - 1] = 77;
    communicator.send(x, 1);
  } else communicator.recv(x, 0);
  const whole = () => {
    for (let i = 0; i < bytes - 1; i += step) if (x[i] !== Math.floor(value(i) + 1)) return false;
    return x[bytes - 1] === 77;
  };
  const came = whole();
  if (rank === 0) x.fill(0);
  communicator.start.broadcast(x, 1).wait();
  return came && whole();
}
