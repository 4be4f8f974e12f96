// Neighbour rows and nearest neighbours of a point cloud, by exhaustive search.
//
// A neighbour row is the closed neighbourhood of one point as packed bits: bit j of row i is set when
// points i and j are joined, and bit i of row i always is. 64 points share a word, so the rows of n points
// take n * ceil(n / 64) * 8 bytes: 8 MB for n = 8,000, where a float64 distance matrix takes 512 MB.
//
// One rule for ties, in every function of this file: squared differences are added up in float64, in the
// order of the features, whatever the type of the points; a distance equal to the radius counts as joined;
// of points at the same distance the one with the lower index is the nearer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unknot {

constexpr std::size_t words_for(std::size_t n) { return (n + 63) / 64; }

// points: [n, d] row-major. rows: [n, words_for(n)], overwritten.
template <typename Real>
void rows_from_points(const Real* points, std::size_t n, std::size_t d, double radius, std::uint64_t* rows);

// distances: [n, n] row-major and symmetric; the upper triangle is read.
template <typename Real>
void rows_from_distances(const Real* distances, std::size_t n, double radius, std::uint64_t* rows);

// nearest: [n, k], the k nearest other points of each point, nearest first. Needs 1 <= k < n.
template <typename Real>
void nearest_neighbors(const Real* points, std::size_t n, std::size_t d, std::size_t k, std::int64_t* nearest);

// Joins every point to what is at most `hops` steps away in the graph `rows`; out must not alias rows.
void expand_hops(const std::uint64_t* rows, std::size_t n, std::size_t hops, std::uint64_t* out);

}  // namespace unknot
