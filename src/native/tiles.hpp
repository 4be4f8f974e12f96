// Distances to bits: one 64 x 64 tile at a time, half the matrix, the other half by transposing.
#pragma once

#include "bits.hpp"
#include "points.hpp"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace unknot::UNKNOT_VARIANT {

// Bit j: x[j] <= t.
UNKNOT_INLINE Word at_most(const double* x, double t) {
  Word out = 0;
#if defined(__AVX512F__)
  const __m512d tt = _mm512_set1_pd(t);
  for (int j = 0; j < 64; j += 8)
    out |= static_cast<Word>(_mm512_cmp_pd_mask(_mm512_loadu_pd(x + j), tt, _CMP_LE_OQ)) << j;
#elif defined(__AVX__)
  const __m256d tt = _mm256_set1_pd(t);
  for (int j = 0; j < 64; j += 4)
    out |= static_cast<Word>(_mm256_movemask_pd(
               _mm256_cmp_pd(_mm256_loadu_pd(x + j), tt, _CMP_LE_OQ)))
           << j;
#elif defined(__SSE2__)
  const __m128d tt = _mm_set1_pd(t);
  for (int j = 0; j < 64; j += 2)
    out |= static_cast<Word>(_mm_movemask_pd(_mm_cmple_pd(_mm_loadu_pd(x + j), tt))) << j;
#else
  for (int j = 0; j < 64; ++j) out |= static_cast<Word>(x[j] <= t) << j;
#endif
  return out;
}
UNKNOT_INLINE Word at_most(const float* x, float t) {
  Word out = 0;
#if defined(__AVX512F__)
  const __m512 tt = _mm512_set1_ps(t);
  for (int j = 0; j < 64; j += 16)
    out |= static_cast<Word>(_mm512_cmp_ps_mask(_mm512_loadu_ps(x + j), tt, _CMP_LE_OQ)) << j;
#elif defined(__AVX__)
  const __m256 tt = _mm256_set1_ps(t);
  for (int j = 0; j < 64; j += 8)
    out |= static_cast<Word>(static_cast<unsigned>(_mm256_movemask_ps(
               _mm256_cmp_ps(_mm256_loadu_ps(x + j), tt, _CMP_LE_OQ))))
           << j;
#elif defined(__SSE2__)
  const __m128 tt = _mm_set1_ps(t);
  for (int j = 0; j < 64; j += 4)
    out |= static_cast<Word>(static_cast<unsigned>(
               _mm_movemask_ps(_mm_cmple_ps(_mm_loadu_ps(x + j), tt))))
           << j;
#else
  for (int j = 0; j < 64; ++j) out |= static_cast<Word>(x[j] <= t) << j;
#endif
  return out;
}

// Transposes 64 x 64 bits in place (Warren, Hacker's Delight, 7-3).
inline void transpose(Word* a) {
  Word mask = 0x00000000FFFFFFFFull;
  for (int j = 32; j; j >>= 1, mask ^= mask << j)
    for (int k = 0; k < 64; k = (k + j + 1) & ~j) {
      const Word x = ((a[k] >> j) ^ a[k + j]) & mask;
      a[k] ^= x << j;
      a[k + j] ^= x;
    }
}

// Squared distances of one point to the 64 of a block, as the rule of points.hpp says.
template <int D, bool HasUnit = false>
UNKNOT_INLINE void squared_distances(const PointTable& t, const double* x, int block, double* out) {
  const int d = D > 0 ? D : t.d;
  const double* c = t.columns.data() + block * 64;
  for (int j = 0; j < 64; ++j) out[j] = 0;
  for (int k = 0; k < d; ++k, c += t.padded) {
    const double xk = x[k];
    for (int j = 0; j < 64; ++j) {
      const double diff = HasUnit ? (xk - c[j]) * t.unit : xk - c[j];
      out[j] += diff * diff;
    }
  }
}
inline void squared_distances(const PointTable& t, const double* x, int block, double* out) {
  if (t.unit != 1) return squared_distances<0, true>(t, x, block, out);
  switch (t.d) {
    case 1: return squared_distances<1>(t, x, block, out);
    case 2: return squared_distances<2>(t, x, block, out);
    case 3: return squared_distances<3>(t, x, block, out);
    default: return squared_distances<0>(t, x, block, out);
  }
}

// No two points of the blocks are as near as this, squared. Rounded like the distances themselves:
// every step is monotonic, so the bound also holds for the computed values.
inline double box_gap(const PointTable& t, const double* lo, const double* hi, int block) {
  const double* b = t.box.data() + static_cast<std::size_t>(block) * 2 * t.d;
  double sum = 0;
  for (int k = 0; k < t.d; ++k) {
    double gap = b[k] - hi[k];
    if (lo[k] - b[t.d + k] > gap) gap = lo[k] - b[t.d + k];
    gap *= t.unit;
    if (gap > 0) sum += gap * gap;
  }
  return sum;
}

#if defined(__GNUC__)
#if defined(__AVX512F__)
typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
#elif defined(__AVX__)
typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));
#else
typedef float Lanes __attribute__((vector_size(16), aligned(4), may_alias));
#endif
#else
typedef float Lanes;
#endif

// Single-precision inner products of four columns with 64, summed over `depth` features and written
// to out, or added to it. Any rounding will do: what is doubtful is decided again.
UNKNOT_INLINE void inner_products(const float* four, const float* all, int depth, bool add, float* out) {
  constexpr int lanes = sizeof(Lanes) / sizeof(float);
  constexpr int wide = sizeof(Lanes) == 64 ? 4 : 2;
  for (int j = 0; j < 64; j += lanes * wide) {
    Lanes sum[4][wide] = {};
    const float* a = four;
    const float* b = all + j;
    for (int k = 0; k < depth; ++k, a += 64, b += 64)
      for (int c = 0; c < wide; ++c) {
        const Lanes bc = *reinterpret_cast<const Lanes*>(b + c * lanes);
        for (int r = 0; r < 4; ++r) {
#if defined(__AVX512F__)
          sum[r][c] = (Lanes)_mm512_fmadd_ps(_mm512_set1_ps(a[r]), (__m512)bc, (__m512)sum[r][c]);
#elif defined(__FMA__)
          sum[r][c] = (Lanes)_mm256_fmadd_ps(_mm256_set1_ps(a[r]), (__m256)bc, (__m256)sum[r][c]);
#else
          sum[r][c] += a[r] * bc;
#endif
        }
      }
    for (int r = 0; r < 4; ++r)
      for (int c = 0; c < wide; ++c) {
        Lanes* to = reinterpret_cast<Lanes*>(out + r * 64 + j + c * lanes);
        *to = add ? *to + sum[r][c] : sum[r][c];
      }
  }
}

// out[q * 64 + j]: the inner product of place first + q, q < rows, with place j of block cb. The
// places lie in one block and `first` is a multiple of four; up to three rows more are written.
inline void inner_tile(const PointTable& t, int first, int rows, int cb, float* out) {
  constexpr int part = kStretch * kStretches;
  alignas(64) float sum[64 * 64];  // of the second part and those after it
  const int filled = (rows + 3) / 4 * 4 * 64;
  for (int begin = 0; begin < t.d; begin += part) {
    const int end = t.d - begin < part ? t.d : begin + part;
    float* to = begin ? sum : out;
    for (int k = begin; k < end; k += kStretch) {
      const float* a = t.single(first / 64) + static_cast<std::size_t>(k) * 64 + first % 64;
      const float* b = t.single(cb) + static_cast<std::size_t>(k) * 64;
      const int depth = end - k < kStretch ? end - k : kStretch;
      for (int r = 0; r < rows; r += 4) inner_products(a + r, b, depth, k > begin, to + r * 64);
    }
    for (int j = 0; begin && j < filled; ++j) out[j] += sum[j];
  }
}

// out[j] = shift + a[j] - b[j]. In whole vectors, as at_most reads them: a load of two smaller
// stores would have to wait until both are in the cache.
UNKNOT_INLINE void differences(float shift, const float* a, const float* b, float* out) {
  constexpr int lanes = sizeof(Lanes) / sizeof(float);
  for (int j = 0; j < 64; j += lanes)
    *reinterpret_cast<Lanes*>(out + j) = shift + *reinterpret_cast<const Lanes*>(a + j) -
                                         *reinterpret_cast<const Lanes*>(b + j);
}

// Adds to sum[i] the squares of x - y[i] by the rule of points.hpp, over d features. Many sums at once,
// because the additions of one must wait for each other.
constexpr int kTogether = 16, kFew = 4;

template <int Count, class T>
UNKNOT_INLINE void add_squares(const T* x, const T* const* y, int d, double* sum) {
  int k = 0;
#if defined(__GNUC__) && defined(__SSE2__)
  if constexpr (sizeof(T) == 4) {
    typedef double Four __attribute__((vector_size(32)));
    Four part[Count / 4];
    std::memcpy(part, sum, sizeof part);
    for (; k + 4 <= d; k += 4)
      for (int g = 0; g < Count / 4; ++g) {
        __m128 a[4];
        for (int i = 0; i < 4; ++i) a[i] = _mm_loadu_ps(y[g * 4 + i] + k);
        _MM_TRANSPOSE4_PS(a[0], a[1], a[2], a[3]);
        for (int f = 0; f < 4; ++f) {
          const Four diff = static_cast<double>(x[k + f]) - __builtin_convertvector(a[f], Four);
          part[g] += diff * diff;
        }
      }
    std::memcpy(sum, part, sizeof part);
  }
#endif
  constexpr int step = Count < 8 ? Count : 8;
  for (int g = 0; g < Count; g += step)
    for (int f = k; f < d; ++f) {
      const double xf = x[f];
      for (int i = g; i < g + step; ++i) {
        const double diff = xf - y[i][f];
        sum[i] += diff * diff;
      }
    }
}

// Squared distances from one place to each of a list.
template <class T>
void listed_distances(const PointTable& t, int from, const int* places, int count, double* out) {
  const T* source = static_cast<const T*>(t.source.data);
  const T* x = source + static_cast<std::size_t>(t.order[from]) * t.d;
  for (int c = 0; c < count; c += kTogether) {
    const T* y[kTogether];
    double sum[kTogether] = {};
    for (int i = 0; i < kTogether; ++i)
      y[i] = source + static_cast<std::size_t>(t.order[places[c + i < count ? c + i : c]]) * t.d;
    if (count - c <= kFew)
      add_squares<kFew>(x, y, t.d, sum);
    else
      add_squares<kTogether>(x, y, t.d, sum);
    for (int i = 0; i < kTogether && c + i < count; ++i) out[c + i] = sum[i];
  }
}
inline void listed_distances(const PointTable& t, int from, const int* places, int count, double* out) {
  t.source.is_double ? listed_distances<double>(t, from, places, count, out)
                     : listed_distances<float>(t, from, places, count, out);
}

inline Word recheck(const PointTable& t, int from, int block, Word doubtful, double limit) {
  int places[64], count = 0;
  double sums[64];
  if (block == t.n / 64) doubtful &= (Word{1} << (t.n & 63)) - 1;
  for (Word w = doubtful; w; w &= w - 1) places[count++] = block * 64 + lowest_bit(w);
  listed_distances(t, from, places, count, sums);
  Word out = 0;
  for (int i = 0; i < count; ++i) out |= static_cast<Word>(sums[i] <= limit) << (places[i] & 63);
  return out;
}

// By the bound of shortlist.hpp half the squared distance is h_x + h_y - x.y, give or take
// c (h_x + h_y) + tiny. Single precision computes (h_x - limit / 2) + h_y - x.y: five roundings of
// u (h_x + h_y), where c has ten to spare beside points and products, and four of u limit / 2. For all of a
// row of the tile the greatest h_y counts.
inline void quick_tile(const PointTable& t, int rb, int cb, double limit, Word* tile) {
  alignas(64) float dot[64 * 64];
  // Nothing is as far as 2^100.
  const double half = limit * t.scale * t.scale / 2, most = half < 0x1p100 ? half : 0x1p100;
  const float half_limit = static_cast<float>(most);
  const float *norms = t.half_norm.data(), *others = norms + cb * 64;
  float greatest = 0;
  for (int j = 0; j < 64; ++j) greatest = others[j] > greatest ? others[j] : greatest;
  const double share = shortlist_error(t.d) * 1.00001, rest = 5 * 0x1p-24 * most + 2 * t.tiny;
  inner_tile(t, rb * 64, t.n - rb * 64 < 64 ? t.n - rb * 64 : 64, cb, dot);
  for (int r = 0; r < 64 && rb * 64 + r < t.n; ++r) {
    const float base = norms[rb * 64 + r] - half_limit;
    const double norm = static_cast<double>(norms[rb * 64 + r]) + greatest;
    const float slack = static_cast<float>(share * norm + rest);
    alignas(64) float short_by[64];
    differences(base, others, dot + r * 64, short_by);
    const Word sure = at_most(short_by, -slack), maybe = at_most(short_by, slack);
    tile[r] = sure;
    if (maybe != sure) tile[r] |= recheck(t, rb * 64 + r, cb, maybe & ~sure, limit);
  }
}

inline void exact_tile(const PointTable& t, int rb, int cb, double limit, Word* tile) {
  alignas(64) double sums[64];
  for (int r = 0; r < 64 && rb * 64 + r < t.n; ++r) {
    squared_distances(t, t.rows.data() + static_cast<std::size_t>(rb * 64 + r) * t.d, cb, sums);
    tile[r] = at_most(sums, limit);
  }
}

// Writes tile (rb, cb) and its mirror image; rows past n and columns past n stay zero.
inline void store_tile(Word* rows, int n, int words, int rb, int cb, Word* tile) {
  if (cb == words - 1 && (n & 63))
    for (int r = 0; r < 64; ++r) tile[r] &= (Word{1} << (n & 63)) - 1;
  for (int r = 0; r < 64 && rb * 64 + r < n; ++r)
    rows[static_cast<std::size_t>(rb * 64 + r) * words + cb] = tile[r];
  if (rb == cb) {
    for (int v = rb * 64; v < rb * 64 + 64 && v < n; ++v)
      set_bit(rows + static_cast<std::size_t>(v) * words, v);
    return;
  }
  transpose(tile);
  for (int r = 0; r < 64 && cb * 64 + r < n; ++r)
    rows[static_cast<std::size_t>(cb * 64 + r) * words + rb] = tile[r];
}

// Tile row rb of the neighbour graph of a point table. `rows` starts all zero.
inline void point_tiles(const PointTable& t, double limit, Word* rows, int rb) {
  const int words = t.padded / 64;
  const double* lo = t.quick ? nullptr : t.box.data() + static_cast<std::size_t>(rb) * 2 * t.d;
  for (int cb = rb; cb < words; ++cb) {
    if (lo && cb != rb && box_gap(t, lo, lo + t.d, cb) > limit) continue;
    Word tile[64] = {};
    t.quick ? quick_tile(t, rb, cb, limit, tile) : exact_tile(t, rb, cb, limit, tile);
    store_tile(rows, t.n, words, rb, cb, tile);
  }
}

}  // namespace unknot::UNKNOT_VARIANT
