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
// Requires 2 <= k < n of every cloud, and all points of a cloud to differ.
std::vector<Islands> find_islands(const std::vector<Points>&, int k, double z, int threads, Control&);

// The n - 1 edges of the Euclidean minimum spanning tree, of edges as long the one between lower numbers;
// none where a squared distance is beyond what float64 holds. near: [n, k], as of nearest().
std::vector<std::int32_t> spanning_tree(Points, const std::int32_t* near, int k, int threads, Control&);

}  // namespace unknot
