// Attention over cached latents, forward (src/contract/latents.ts). A task is a part of one sequence's tokens with a group
// of its queries: queries are packed once, then blocks of tokens follow, with the softmax made along the way as in
// attention.cc. Runs of tokens are read where they lie in their page when products can take them as they are; others are
// unpacked first, once for all heads.
//
// Parts begin at multiples of partTokens, blocks at multiples of their size, and parts are joined in ascending order: what
// a query gets depends on the tokens it sees alone. Parts that it does not see add exact zeros.
#include "kernels.h"
#include "latent-block.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** Tokens of a part: so many that writing and joining its sums takes little of its time. */
constexpr long partTokens = 512;
/** Most rows (heads of a query) of a group: their sums stay in the second-level cache. */
constexpr long groupRows = 128;
/** Parts of so many sequences are under way at once that their sums take about this many words. */
constexpr long partWords = 16 << 20;

struct Inputs {
  LatentShape shape;
  View out, lse, q, pages, table, lengths;
};

/** A group of queries of one sequence: its vectors, and its tokens cut into parts. */
struct Unit {
  long sequence;
  long firstVector;
  long vectors;
  /** Tokens that its last query sees, at least 0. */
  long tokens;
  long parts;
  /** Its first task of a round, and where the sums of its parts begin, in words. */
  long firstTask;
  long firstWord;
};

/** Tokens that query i of a sequence sees; 0 or less for none. */
long seenBy(const LatentShape& s, long length, long query) { return length - s.queries + query + 1; }

long rowsOf(const LatentShape& s, const Unit& unit) { return unit.vectors * s.lanes(); }
/** Words of one part's sums, with total and largest score of each row. */
long wordsOfPart(const LatentShape& s, const Unit& unit) { return rowsOf(s, unit) * (roundUp(s.rank, panelCols) + 2); }

/** Head and query of lane h of vector v of a sequence; false where there is none. */
bool headOf(const LatentShape& s, long vector, long lane, long& query, long& head) {
  query = vector / s.vectors();
  head = vector % s.vectors() * W + lane;
  return head < s.heads;
}

/** Rows of a vector's heads lane by lane: [step][head][part]. */
template <int Parts>
void packLanes(const float* rows, const Group& g, float* columns) {
  for (long c = 0; c < g.pitch; c += Parts, columns += panelCols)
    for (long h = 0; h < g.lanes; h += 1) memcpy(columns + h * Parts, rows + h * g.pitch + c, Parts * 4);
}
void packParts(const float* rows, const Group& g, float* columns) {
  if (g.parts == 2) packLanes<2>(rows, g, columns);
  if (g.parts == 4) packLanes<4>(rows, g, columns);
  if (g.parts == 8) packLanes<8>(rows, g, columns);
  if (g.parts == 16) packLanes<16>(rows, g, columns);
}

template <bool Pairs>
void packQueries(const Group& g, const Inputs& in, const Unit& unit) {
  const LatentShape& s = in.shape;
  const long panel = panelCols * (g.pitch / g.parts);
  for (long v = 0; v < roundUp(unit.vectors, 2); v += 1) {
    float* rows = g.rows + v % 2 * W * g.pitch;
    long query = 0;
    long head = 0;
    headOf(s, unit.firstVector + v, 0, query, head);
    const long count = v < unit.vectors ? minOf(g.lanes, s.heads - head) : 0;
    const long first = ((unit.sequence * s.queries + query) * s.heads + head) * s.width();
    packRows<Pairs>({in.q.data, in.q.dtype, first, s.width(), s.width()}, 0, count, g.lanes, s.low, rows);
    float* columns = g.columns + v / 2 * panel;
    if (g.parts > 1) {
      packParts(rows, g, columns + v % 2 * W);
    } else if (v % 2 == 1) {
      packColumns(g.rows, panelCols, g.pitch, columns);
    }
  }
}

/** Where tokens of one sequence lie. */
class Tokens {
 public:
  template <bool Pairs>
  static Tokens of(const Inputs& in, long sequence) {
    const LatentShape& s = in.shape;
    Tokens t;
    t.pool_ = latentPool(in.pages, s.rank, s.rope);
    t.table_ = in.table.i32() + sequence * s.tableWidth;
    t.pageSize_ = s.pageSize;
    // Words lie in the pool as products take them, and a panel of the last latents ends inside the row.
    t.asTheyLie_ = in.pages.dtype == (Pairs ? DType::bf16 : DType::f32) && s.width() % (Pairs ? 32 : panelCols) == 0;
    return t;
  }

  const char* at(long token) const {
    return pool_.token(table_[token / pageSize_] * pageSize_ + token % pageSize_);
  }

  /** Tokens [first, first + count) of a block; what is unpacked goes to `memory`. */
  template <bool Pairs>
  void locate(BlockRows& rows, long first, long count, long pitch, float* memory) const {
    rows.count = count;
    for (long k = 0; k < count; k += tokenRun) {
      const long n = minOf(tokenRun, count - k);
      float* to = memory + k * pitch;
      if (asTheyLie_ && n == tokenRun && pageSize_ % tokenRun == 0) {
        rows.runs[k / tokenRun] = reinterpret_cast<const float*>(at(first + k));
      } else {
        rows.runs[k / tokenRun] = to;
        unpack<Pairs>(first + k, n, pitch, to);
      }
    }
  }

  /** Where tokens [first, first + count) lie. */
  void list(Ahead& ahead, long first, long count) const {
    for (long i = 0; i < count;) {
      const long n = minOf(count - i, pageSize_ - (first + i) % pageSize_);
      ahead.add(at(first + i), n * pool_.tokenBytes());
      i += n;
    }
  }

 private:
  template <bool Pairs>
  void unpack(long first, long count, long pitch, float* to) const {
    for (long i = 0; i < count;) {
      // As many as lie in one page.
      const long n = minOf(count - i, pageSize_ - (first + i) % pageSize_);
      unpackLatents<Pairs>(pool_, at(first + i), n, i + n == count ? tokenRun - i : n, pitch, to + i * pitch);
      i += n;
    }
  }

  LatentPool pool_;
  const int32_t* table_;
  long pageSize_;
  bool asTheyLie_;
};

/** Writes finished rows, or those of a part. */
void finish(const Group& g, const Inputs& in, const Unit& unit, float* part);

/** A finished row: what its sums and its total come to. */
void writeRow(const Inputs& in, const Unit& unit, long row, const float* sums, float total, float top) {
  const LatentShape& s = in.shape;
  long query = 0;
  long head = 0;
  if (!headOf(s, unit.firstVector + row / s.lanes(), row % s.lanes(), query, head)) return;
  float* out = in.out.f32() + ((unit.sequence * s.queries + query) * s.heads + head) * s.rank;
  float* lse = in.lse.f32() + (unit.sequence * s.heads + head) * s.queries + query;
  if (total == 0) {
    memset(out, 0, static_cast<size_t>(s.rank) * 4);
    *lse = INFINITY;
    return;
  }
  const vf factor = div(set1(1), set1(total));
  forRange(0, s.rank, [&](auto at, long d) { at.store(out + d, mul(load(sums + d), factor)); });
  const vf log = fma(set1(top), set1(static_cast<float>(ln2)), naturalLog(set1(total)));
  storePartial(lse, log, 1);
}

float totalOf(const Group& g, long row) {
  const float* lanes = g.totals + row / g.lanes * W + row % g.lanes;
  float total = 0;
  for (long p = 0; p < g.parts; p += 1) total += lanes[p * g.lanes];
  return total;
}

void finish(const Group& g, const Inputs& in, const Unit& unit, float* part) {
  const long rows = unit.vectors * g.lanes;
  for (long row = 0; row < rows; row += 1) {
    const float* sums = g.sums + row * g.sumsPitch;
    const float total = totalOf(g, row);
    const float top = g.tops[row / g.lanes * W + row % g.lanes];
    if (part == nullptr) {
      writeRow(in, unit, row, sums, total, top);
      continue;
    }
    part[rows * g.sumsPitch + 2 * row] = total;
    part[rows * g.sumsPitch + 2 * row + 1] = top;
    // A row that sees nothing of this part has sums of zeros: nobody reads them.
    if (total != 0) memcpy(part + row * g.sumsPitch, sums, static_cast<size_t>(g.sumsPitch) * 4);
  }
}

/** Where the first tokens of what this thread most likely does next lie, or nothing. */
template <bool Pairs>
void listNext(Ahead& ahead, const Inputs& in, const Unit& unit, const Unit* next, const Tokens& tokens, long from) {
  const long block = in.shape.block();
  if (from < unit.tokens) {
    tokens.list(ahead, from, minOf(block, unit.tokens - from));
  } else if (next != nullptr) {
    Tokens::of<Pairs>(in, next->sequence).list(ahead, 0, minOf(block, next->tokens));
  }
}

/** `next`: the unit behind this one, if any. */
template <bool Pairs>
void attendPart(const Inputs& in, const Unit& unit, const Unit* next, long first, long count, float* part) {
  const LatentShape& s = in.shape;
  Group g;
  const size_t bytes = static_cast<size_t>(layOutGroup<Pairs>(g, nullptr, s, unit.vectors)) * 4;
  layOutGroup<Pairs>(g, static_cast<float*>(scratch(Scratch::packedA, bytes)), s, unit.vectors);
  packQueries<Pairs>(g, in, unit);
  const long length = in.lengths.i32()[unit.sequence];
  const Tokens tokens = Tokens::of<Pairs>(in, unit.sequence);
  long visible[groupRows];
  BlockRows rows;
  Ahead ahead;
  const long block = s.block();
  for (long k0 = first; k0 < first + count; k0 += block) {
    const long n = minOf(block, first + count - k0);
    tokens.locate<Pairs>(rows, k0, n, g.pitch, g.rows);
    ahead.clear();
    if (k0 + n < first + count) {
      tokens.list(ahead, k0 + n, minOf(block, first + count - k0 - n));
    } else {
      listNext<Pairs>(ahead, in, unit, next, tokens, k0 + n);
    }
    for (long v = 0; v < unit.vectors; v += 1) {
      const long seen = seenBy(s, length, (unit.firstVector + v) / s.vectors()) - k0;
      visible[v] = minOf(n, maxOf(0, seen));
    }
    attendBlock<Pairs>(g, s, rows, visible, k0 > first, ahead);
  }
  if (count == 0) memset(g.totals, 0, static_cast<size_t>(unit.vectors * W) * 4);
  finish(g, in, unit, part);
}

/** Rows of a group from the sums of its parts: each shrinks to the largest score of all. */
void joinRow(const Inputs& in, const Unit& unit, long row, float* parts) {
  const long rows = rowsOf(in.shape, unit);
  const long pitch = roundUp(in.shape.rank, panelCols);
  const long stride = wordsOfPart(in.shape, unit);
  const float* ends = parts + rows * pitch + 2 * row;
  float top = ends[1];
  for (long p = 1; p < unit.parts; p += 1) top = ends[p * stride + 1] > top ? ends[p * stride + 1] : top;
  float* sums = parts + row * pitch;
  float total = 0;
  bool onto = false;
  for (long p = 0; p < unit.parts; p += 1) {
    const float* end = ends + p * stride;
    if (end[0] == 0) continue;
    alignas(64) float shrink[W];
    store(shrink, exp2(set1(end[1] - top)));
    total += end[0] * shrink[0];
    const float* from = sums + p * stride;
    for (long d = 0; d < pitch; d += W) {
      const vf x = mul(load(from + d), set1(shrink[0]));
      store(sums + d, onto ? add(load(sums + d), x) : x);
    }
    onto = true;
  }
  writeRow(in, unit, row, sums, total, top);
}

template <bool Pairs>
void runUnits(const Inputs& in, const Unit* units, long count, long tasks, float* memory) {
  const LatentShape& s = in.shape;
  parallelFor(tasks, [&](long task) {
    long low = 0;
    for (long high = count; high - low > 1;) {
      const long middle = (low + high) / 2;
      (units[middle].firstTask <= task ? low : high) = middle;
    }
    const Unit& unit = units[low];
    const long part = task - unit.firstTask;
    float* to = unit.parts > 1 ? memory + unit.firstWord + part * wordsOfPart(s, unit) : nullptr;
    const Unit* next = low + 1 < count ? units + low + 1 : nullptr;
    attendPart<Pairs>(in, unit, next, part * partTokens, minOf(partTokens, unit.tokens - part * partTokens), to);
  });
  parallelFor(count, [&](long u) {
    if (units[u].parts == 1) return;
    for (long row = 0; row < rowsOf(s, units[u]); row += 1) joinRow(in, units[u], row, memory + units[u].firstWord);
  });
}

template <bool Pairs>
void run(const Inputs& in) {
  const LatentShape& s = in.shape;
  const long vectors = s.queries * s.vectors();
  const long most = groupRows / W;
  const long groups = ceilDiv(vectors, most);
  const long all = s.sequences * groups;
  Unit* units = static_cast<Unit*>(scratch(Scratch::plans, static_cast<size_t>(all) * sizeof(Unit)));
  long begin = 0;
  long tasks = 0;
  long words = 0;
  const auto round = [&](long end) {
    float* memory = static_cast<float*>(scratch(Scratch::sums, static_cast<size_t>(words) * 4));
    runUnits<Pairs>(in, units + begin, end - begin, tasks, memory);
    begin = end;
    tasks = 0;
    words = 0;
  };
  for (long u = 0; u < all; u += 1) {
    Unit& unit = units[u];
    unit.sequence = u / groups;
    unit.firstVector = u % groups * most;
    unit.vectors = minOf(most, vectors - unit.firstVector);
    const long lastQuery = (unit.firstVector + unit.vectors - 1) / s.vectors();
    unit.tokens = maxOf(0, seenBy(s, in.lengths.i32()[unit.sequence], lastQuery));
    unit.parts = maxOf(1, ceilDiv(unit.tokens, partTokens));
    unit.firstTask = tasks;
    unit.firstWord = words;
    tasks += unit.parts;
    if (unit.parts > 1) words += unit.parts * wordsOfPart(s, unit);
    if (words >= partWords) round(u + 1);
  }
  if (begin < all) round(all);
}

}  // namespace

void latentAttention(Args args) {
  Inputs in;
  in.out = args.view();
  in.lse = args.view();
  in.q = args.view();
  in.pages = args.view();
  in.table = args.view();
  in.lengths = args.view();
  LatentShape& s = in.shape;
  s.sequences = args.integer();
  s.queries = args.integer();
  s.heads = args.integer();
  s.rank = args.integer();
  s.rope = args.integer();
  s.pages = args.integer();
  s.pageSize = args.integer();
  s.tableWidth = args.integer();
  s.scale = static_cast<float>(args.number());
  s.low = in.pages.dtype != DType::f32;
  if (s.queries == 0 || s.heads == 0) return;
#if defined(BALEEN_AVX512BF16)
  if (s.low) {
    run<true>(in);
    return;
  }
#endif
  run<false>(in);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
