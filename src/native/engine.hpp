// The engine as plain C++: choice of the instruction set, threads, batches.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "variant.hpp"

namespace unknot {

using Betti = std::array<std::int64_t, 3>;

// The variant in use, those this machine can run, and a switch for tests (false: not available).
const Variant& variant();
std::vector<const Variant*> variants();
bool use_variant(const char* name);

// Calls work(i, control) for i in [0, count) on at most `threads` threads (0: one per core). The
// caller's thread keeps polling; the first exception ends the run and is thrown from here.
void parallel(std::int64_t count, int threads, Control& control,
              const std::function<void(std::int64_t, Control&)>& work);

void rows_from_points(const PointTable&, double radius, int threads, Control&, std::uint64_t* rows);
// Of an n x n matrix; joined where the lesser of d_ij and d_ji is <= radius.
template <class T>
DistanceSurvey rows_from_distances(const T* distances, int n, double radius, double share, int threads,
                                   Control&, std::uint64_t* rows);

Betti betti_points(Points, double radius, int max_dim, int threads, Control&);
std::vector<Betti> betti_batch(const std::vector<Points>&, const std::vector<double>& radii,
                               int max_dim, int threads, Control&);

struct Csr {
  std::vector<std::int64_t> indptr;
  std::vector<std::int32_t> indices;
};
// The k nearest of each point, [n, k], in any order; ties by lower number. Requires 1 <= k < n.
std::vector<std::int32_t> nearest(Points, int k, int threads, Control&);
// The k nearest of each point by (squared distance, number), and what the search for them leaves to others.
struct Lists {
  Points points{};
  int k = 0;
  std::vector<Near> near;  // [n, k]
  PointTable table;        // empty where there was no search
  Lines tiles;             // all inner products as of Variant::inner_tiles, or none

  const Near* of(int i) const { return near.data() + static_cast<std::size_t>(i) * k; }
};
// keep: the inner products of a few thousand points too, where they are of use.
Lists nearest_lists(Points, int k, bool keep, int threads, Control&);
Lists lists_of(Points, const std::int32_t* near, int k, int threads, Control&);
// i and j are joined when either is in the other's list of k. Sorts the lists of many points.
Csr symmetric(std::vector<std::int32_t>& near, int n, int k);
Csr knn_graph(Points, int k, int threads, Control&);
// Pairs at most `hops` steps apart.
Csr hop_graph(const std::int64_t* indptr, const std::int32_t* indices, int n, int hops, int threads,
              Control&);
void hop_rows(const std::int64_t* indptr, const std::int32_t* indices, int n, int hops, int threads,
              Control&, std::uint64_t* rows);
std::vector<Betti> betti_batch_knn(const std::vector<Points>&, int k, int hops, int max_dim,
                                   int threads, Control&);

// See superlevel.cpp.
struct Islands {
  std::vector<std::int64_t> members;  // the island of each point
  std::vector<double> prominences;    // of all peaks, falling; infinite for those that join no higher one
  double dimension = 0;
};
// The logarithm of each distance of the lists. Requires all points to differ.
std::vector<double> list_logs(const Lists&, int threads, Control&);
// Of n points; near and logs: `stride` a point, the first k of them its nearest, numbers below n.
Islands islands_of(const Near* near, const double* logs, int stride, int n, int k, double z, Control&);
// Requires 2 <= k < n of every cloud, and all points of a cloud to differ.
std::vector<Islands> find_islands(const std::vector<Points>&, int k, double z, int threads, Control&);

// Whether float64 holds all squared distances of two points or more.
bool squares_fit(const Lists&);
// The m - 1 edges of the Euclidean minimum spanning tree of m of the points, of edges as long the one
// between lower numbers. Requires squares_fit.
std::vector<std::int32_t> spanning_tree(const Lists&, const std::vector<std::int32_t>& members, int threads,
                                        Control&);

// What untangle() finds of a cloud, or of a part of it, whose points are numbered from 0.
struct Untangled {
  Islands islands;
  std::vector<std::int32_t> edges;  // of the spanning tree
  std::vector<std::int32_t> near;   // the nearest of each point, nearest first
};
struct UntangleOptions {
  int k;       // of islands
  double z;    // of islands
  int nearest; // how many to list
  bool tree;   // whether edges are wanted
};
// Of the whole and of each part, [count, size] rising numbers: what find_islands, spanning_tree and nearest
// find of the part alone, from one search. Empty where not squares_fit. Requires all points to differ, and
// parts of more points than either k or `nearest`.
std::vector<Untangled> untangle(Points, const UntangleOptions&, const std::int32_t* parts, int count, int size,
                                int threads, Control&);

}  // namespace unknot
