// Every operation of `baleen bench comm` in plain C, for comparison: the same sizes, repeated alike, times in microseconds as
// JSON on rank 0. Ours add in the order of ranks; MPI_Allreduce and MPI_Reduce_scatter_block in any.
//
//   mpicc -O2 bench/plain_mpi.c -o plain_mpi && mpirun -n 2 ./plain_mpi 0.2 8 65536 16777216
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int rank, size;
static float *x, *out;
static int count;

static void barrier(void) { MPI_Barrier(MPI_COMM_WORLD); }
static void copy(void) { memcpy(out, x, (size_t)count * 4); }
static void message(void) {
  if (rank == 0) {
    MPI_Send(x, count, MPI_FLOAT, 1, 0, MPI_COMM_WORLD);
    MPI_Recv(out, count, MPI_FLOAT, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  } else if (rank == 1) {
    MPI_Recv(out, count, MPI_FLOAT, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Send(x, count, MPI_FLOAT, 0, 0, MPI_COMM_WORLD);
  }
}
static void broadcast(void) { MPI_Bcast(x, count, MPI_FLOAT, 0, MPI_COMM_WORLD); }
static void allReduce(void) { MPI_Allreduce(x, out, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); }
static void reduceScatter(void) {
  MPI_Reduce_scatter_block(x, out, count / size, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}
static void allGather(void) {
  MPI_Allgather(x, count / size, MPI_FLOAT, out, count / size, MPI_FLOAT, MPI_COMM_WORLD);
}
static void allToAll(void) {
  MPI_Alltoall(x, count / size, MPI_FLOAT, out, count / size, MPI_FLOAT, MPI_COMM_WORLD);
}

static double timed(void (*call)(void), int calls) {
  MPI_Barrier(MPI_COMM_WORLD);
  const double start = MPI_Wtime();
  for (int i = 0; i < calls; i += 1) call();
  return 1e6 * (MPI_Wtime() - start) / calls;
}

static int ascending(const void* a, const void* b) {
  const double d = *(const double*)a - *(const double*)b;
  return d < 0 ? -1 : d > 0;
}

static int clamp(double value, int least, int most) {
  return value < least ? least : value > most ? most : (int)value;
}

static void measure(const char* name, void (*call)(void), double seconds, double ways, int first) {
  timed(call, 2);
  double once = timed(call, 3);
  if (once < 0.1) once = 0.1;
  int counts[2];
  counts[0] = clamp(500 / once + 1, 1, 2000);
  counts[1] = clamp(seconds * 1e6 / (counts[0] * once) + 1, 5, 200);
  MPI_Bcast(counts, 2, MPI_INT, 0, MPI_COMM_WORLD);
  double times[200];
  for (int i = 0; i < counts[1]; i += 1) times[i] = timed(call, counts[0]) / ways;
  qsort(times, (size_t)counts[1], sizeof *times, ascending);
  if (rank == 0)
    printf("%s{\"operation\":\"%s\",\"bytes\":%d,\"us\":%.3f,\"bestUs\":%.3f}", first ? "" : ",", name, count * 4,
           times[counts[1] / 2], times[0]);
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const double seconds = argc > 1 ? atof(argv[1]) : 0.2;
  if (rank == 0) printf("[");
  measure("barrier", barrier, seconds, 1, 1);
  for (int i = 2; i < argc; i += 1) {
    const int unit = 4 * size;
    count = (atoi(argv[i]) + unit - 1) / unit * size;
    x = malloc((size_t)count * 4);
    out = malloc((size_t)count * 4);
    for (int j = 0; j < count; j += 1) x[j] = out[j] = 1;
    measure("copy", copy, seconds, 1, 0);
    if (size > 1) measure("message", message, seconds, 2, 0);
    measure("broadcast", broadcast, seconds, 1, 0);
    measure("allReduce", allReduce, seconds, 1, 0);
    measure("reduceScatter", reduceScatter, seconds, 1, 0);
    measure("allGather", allGather, seconds, 1, 0);
    measure("allToAll", allToAll, seconds, 1, 0);
    free(x);
    free(out);
  }
  if (rank == 0) printf("]\n");
  MPI_Finalize();
  return 0;
}
