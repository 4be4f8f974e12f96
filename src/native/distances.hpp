// A matrix of distances to bits, and on the way what tells whether it is one.
//
// One pass over memory: a tile above the diagonal with its mirror image below, which is transposed in
// cache. Most matrices are symmetric to the last bit; of such a pair of tiles one is surveyed.
#pragma once

#include "tiles.hpp"
#include "variant.hpp"

namespace unknot::UNKNOT_VARIANT {

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define UNKNOT_SHUFFLES 1
#endif
#endif

// Asks for 64 numbers, into the second cache: the first is full of the tiles at work.
template <class T>
UNKNOT_INLINE void ask_for(const T* row) {
#if defined(__GNUC__)
  for (int c = 0; c < 64; c += 64 / static_cast<int>(sizeof(T))) __builtin_prefetch(row + c, 0, 2);
#endif
}

// to[r][c] = from[c][r], r < height and c < width, for a tile of a matrix with rows of n.
template <class T>
UNKNOT_INLINE void mirror_tile(const T* from, std::size_t n, int height, int width, const T* next, T* to) {
  int even_width = 0, even_height = 0;
#if defined(UNKNOT_SHUFFLES)
  typedef T Four __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));
  even_width = width & ~3;
  even_height = height & ~3;
  for (int c = 0; c < even_width; c += 4) {
    for (int k = c; next && k < c + 4; ++k) ask_for(next + (k / 2) * n + (k % 2) * 64);
    for (int r = 0; r < even_height; r += 4) {
      const T* x = from + c * n + r;
      const Four a = *reinterpret_cast<const Four*>(x), b = *reinterpret_cast<const Four*>(x + n);
      const Four d = *reinterpret_cast<const Four*>(x + 2 * n),
                 e = *reinterpret_cast<const Four*>(x + 3 * n);
      const Four p = __builtin_shufflevector(a, b, 0, 4, 2, 6),
                 q = __builtin_shufflevector(a, b, 1, 5, 3, 7);
      const Four s = __builtin_shufflevector(d, e, 0, 4, 2, 6),
                 t = __builtin_shufflevector(d, e, 1, 5, 3, 7);
      T* y = to + r * 64 + c;
      *reinterpret_cast<Four*>(y) = __builtin_shufflevector(p, s, 0, 1, 4, 5);
      *reinterpret_cast<Four*>(y + 64) = __builtin_shufflevector(q, t, 0, 1, 4, 5);
      *reinterpret_cast<Four*>(y + 128) = __builtin_shufflevector(p, s, 2, 3, 6, 7);
      *reinterpret_cast<Four*>(y + 192) = __builtin_shufflevector(q, t, 2, 3, 6, 7);
    }
  }
#endif
  for (int r = 0; r < height; ++r)
    for (int c = r < even_height ? even_width : 0; c < width; ++c) to[r * 64 + c] = from[c * n + r];
}

template <class T>
UNKNOT_INLINE T greater(T a, T b) { return a > b ? a : b; }
template <class T>
UNKNOT_INLINE T lesser(T a, T b) { return a < b ? a : b; }

// As many numbers as the instruction set takes at once.
#if defined(__GNUC__)
template <class T>
struct Several {
  typedef T Type __attribute__((vector_size(sizeof(Lanes)), aligned(sizeof(T)), may_alias));
};
#else
template <class T>
struct Several {
  typedef T Type;
};
#endif

// The least of the lanes and 0.
template <class T, class V>
UNKNOT_INLINE T least_lane(const V& low) {
  T out = 0;
  for (std::size_t i = 0; i < sizeof(V) / sizeof(T); ++i) out = lesser(out, reinterpret_cast<const T*>(&low)[i]);
  return out;
}

// One tile x with its mirror image y (rows of 64), bit by bit and surveyed.
template <class T>
UNKNOT_INLINE void survey_tile(const T* x, std::size_t stride, const T* y, T limit, T share,
                               const T* next, Word* tile, DistanceSurvey& survey) {
  typedef typename Several<T>::Type V;
  typedef decltype(V{} != V{}) Flags;
  constexpr int lanes = sizeof(V) / sizeof(T);
  // Of all but `odd` the least counts; `below` is of -x and -y.
  V least{}, below{}, apart{}, excess{}, odd{};
  Flags unlike{};
  for (int r = 0; r < 64; ++r) {
    const T *a = x + r * stride, *b = y + r * 64;
    if (next) ask_for(next + (r / 2) * stride + (r % 2) * 64);
    for (int c = 0; c < 64; c += lanes) {
      const V p = *reinterpret_cast<const V*>(a + c), q = *reinterpret_cast<const V*>(b + c);
      unlike |= p - q != V{};  // also where both are infinite
      least = p < least ? p : least;
      below = p > below ? p : below;
    }
    tile[r] = at_most(a, limit);
  }
  below = -below;
  bool same = true;
  for (std::size_t i = 0; i < sizeof(Flags); ++i) same = same && !reinterpret_cast<const char*>(&unlike)[i];
  for (int r = 0; r < 64 && !same; ++r) {
    const T *a = x + r * stride, *b = y + r * 64;
    for (int c = 0; c < 64; c += lanes) {
      const V p = *reinterpret_cast<const V*>(a + c), q = *reinterpret_cast<const V*>(b + c);
      const V d = p < q ? p - q : q - p, u = p < -p ? p : -p, v = q < -q ? q : -q;
      const V over = d - share * (u < v ? u : v);
      apart = d < apart ? d : apart;
      excess = over < excess ? over : excess;
      odd += (p - p) + (q - q);  // not a number where one of them is infinite or none
      least = q < least ? q : least;
      below = -q < below ? -q : below;
    }
    tile[r] |= at_most(b, limit);
  }
  for (int i = 0; i < lanes; ++i) survey.finite = survey.finite && reinterpret_cast<const T*>(&odd)[i] == 0;
  survey.least = lesser(survey.least, static_cast<double>(least_lane<T>(least)));
  survey.greatest = greater(survey.greatest, -static_cast<double>(least_lane<T>(below)));
  survey.asymmetry = greater(survey.asymmetry, -static_cast<double>(least_lane<T>(apart)));
  survey.excess = greater(survey.excess, -static_cast<double>(least_lane<T>(excess)));
}

// Tile rows rb and rb + 1 of a given n x n matrix, rb even: four tiles and their mirror images at a time,
// while the next four are asked for, two tiles wide.
template <class T>
void distance_tiles(const T* distances, int n, T limit, T share, Word* rows, int rb,
                    DistanceSurvey& survey) {
  const int words = words_for(n), whole = n / 64;
  const std::size_t stride = n;
  alignas(64) T mirror[64 * 64], edge[64 * 64];
  auto at = [&](int row, int column) { return distances + row * 64 * stride + column * 64; };
  for (int four = rb; four < words; four += 2) {
    const bool more = rb + 2 <= whole && four + 4 <= whole;
    for (int part = 0; part < 4; ++part) {
      const int i = rb + part / 2, j = four + part % 2;
      if (i > j || j >= words) continue;
      const int height = lesser(64, n - i * 64), width = lesser(64, n - j * 64);
      const T *x = at(i, j), *below = at(j, i);
      Word tile[64];
      if (height == 64 && width == 64) {
        const std::size_t quarter = part * 32 * stride;
        mirror_tile(below, stride, 64, 64, more ? at(four + 2, rb) + quarter : nullptr, mirror);
        survey_tile(x, stride, mirror, limit, share, more ? at(rb, four + 2) + quarter : nullptr, tile,
                    survey);
      } else {  // filled up with zeros
        for (int k = 0; k < 64 * 64; ++k) mirror[k] = edge[k] = 0;
        for (int r = 0; r < height; ++r)
          for (int c = 0; c < width; ++c) edge[r * 64 + c] = x[r * stride + c];
        mirror_tile<T>(below, stride, height, width, nullptr, mirror);
        survey_tile<T>(edge, 64, mirror, limit, share, nullptr, tile, survey);
      }
      for (int r = 0; i == j && r < height; ++r) {
        const double own = static_cast<double>(x[r * stride + r]);
        survey.diagonal = greater(survey.diagonal, greater(own, -own));
      }
      store_tile(rows, n, words, i, j, tile);
    }
  }
}

}  // namespace unknot::UNKNOT_VARIANT
