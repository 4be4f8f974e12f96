// What one build of the hot code offers. One build for each instruction set; chosen at run time.
#pragma once

#include <cstdint>

#include "control.hpp"
#include "points.hpp"

namespace unknot {

// What tells distances from other numbers.
struct DistanceSurvey {
  double least = 0, greatest = 0;  // of all entries and 0
  double asymmetry = 0;            // greatest |d_ij - d_ji|
  double excess = 0;               // greatest |d_ij - d_ji| - share max(|d_ij|, |d_ji|)
  double diagonal = 0;             // greatest |d_ii|
  bool finite = true;              // no NaN or infinity; else the other numbers are void
};

// A neighbour of a point.
struct Near {
  double squared;
  std::int32_t number;

  bool operator<(const Near& o) const {
    return squared != o.squared ? squared < o.squared : number < o.number;
  }
};

// Which points look for the nearest point of another component, and what they found.
struct ForeignSearch {
  const std::int32_t* component;  // of each point, by original number; -1: it is not there
  const double* bound;            // of each component: squared, nothing farther is looked for
  const char* open;               // of each point: not 0 where it looks
  const std::int32_t* whole;      // of each block of 64 places: its one component, or -1
  const float* tiles;             // of inner_tiles, or null
  double* reach;                  // of each point that looks: squared, no foreign point is nearer
  std::int32_t* partner;          // the foreign point that is so near; -1: there is none
};

struct Variant {
  const char* name;
  // Betti numbers 0..max_dim of a packed graph. spare: rows itself where it may be overwritten, else
  // null, and what has to be is copied.
  void (*betti_dense)(const std::uint64_t* rows, std::uint64_t* spare, int n, int max_dim, Control&,
                      std::int64_t* betti);
  // ... of a symmetric CSR graph without self-loops, indices rising.
  void (*betti_sparse)(const std::int64_t* indptr, const std::int32_t* indices, int n, int max_dim,
                       Control&, std::int64_t* betti);
  // One row of 64 x 64 tiles, from points or from distances, into rows that start all zero. Calls
  // for different tile rows write different words. Distances are surveyed on the way.
  void (*point_tiles)(const PointTable&, double limit, std::uint64_t* rows, int tile_row);
  void (*distance_tiles_double)(const double*, int n, double limit, double share, std::uint64_t* rows,
                                int tile_row, DistanceSurvey&);
  void (*distance_tiles_float)(const float*, int n, float limit, float share, std::uint64_t* rows,
                               int tile_row, DistanceSurvey&);
  // The k nearest of each of one block of 64 places, to out[original number * k]. tiles: null, or all
  // inner products, [blocks, blocks, 64, 64], made by inner_tiles for every row of tiles.
  void (*nearest_of_block)(const PointTable&, int k, int block, const float* tiles, std::int32_t* out);
  void (*list_squares)(const Points&, const std::int32_t* near, int k, int first, int last, Near* out);
  void (*inner_tiles)(const PointTable&, int tile_row, float* tiles);
  void (*nearest_foreign)(const PointTable&, const ForeignSearch&, int block);
  // Row v of the graph of pairs at most two steps apart: out |= the rows of v's neighbours.
  void (*or_rows)(const std::uint64_t* rows, const std::int32_t* which, int count, int words,
                  std::uint64_t* out);
  // The folding activations; see folds.hpp.
  void (*zfold)(const float* x, float* y, std::int64_t n, float slope, float turn);
  void (*zfold_backward)(const float* grad, const float* y, float* out, std::int64_t n, float slope);
  void (*qfold)(const float* x, float* y, std::int64_t n, float frequency, float height);
  void (*qfold_backward)(const float* grad, const float* y, float* out, std::int64_t n, float frequency,
                         float height);
};

extern const Variant baseline_variant;
#if defined(UNKNOT_HAS_X86_64_V3)
extern const Variant x86_64_v3_variant;
#endif
#if defined(UNKNOT_HAS_X86_64_V4)
extern const Variant x86_64_v4_variant;
#endif

}  // namespace unknot
