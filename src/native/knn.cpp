// The symmetrised k-nearest-neighbour graph, and the pairs a few steps apart in a sparse graph.
#include <algorithm>
#include <bit>

#include "engine.hpp"

namespace unknot {

namespace {

// Boxes are of use for many points in few dimensions.
constexpr int kBoxPoints = 1024, kBoxDimensions = 32;
// Half of all inner products are the other half mirrored. To keep them all pays from so many
// dimensions on: earlier for few points, for which memory is at hand (4 MiB), and up to 16 MiB.
constexpr int kMirrorDimensions = 16, kMirrorPoints = 1024, kMirrorManyDimensions = 96, kMirrorMost = 2048;
// Where they are asked for beyond the search: up to 64 MiB.
constexpr int kKeptPoints = 4096;
// Up to here the graph is symmetrised in packed rows (8 MiB).
constexpr int kPackedPoints = 8192;

// The graph of pairs (i, j) with j in i's list or i in j's; near: n lists of k.
Csr symmetric_packed(const std::vector<std::int32_t>& near, int n, int k) {
  const int words = (n + 63) / 64;
  std::vector<std::uint64_t> bits(static_cast<std::size_t>(n) * words, 0);
  for (int i = 0; i < n; ++i)
    for (int t = 0; t < k; ++t) {
      const int j = near[static_cast<std::size_t>(i) * k + t];
      bits[static_cast<std::size_t>(i) * words + (j >> 6)] |= std::uint64_t{1} << (j & 63);
      bits[static_cast<std::size_t>(j) * words + (i >> 6)] |= std::uint64_t{1} << (i & 63);
    }
  Csr g;
  g.indptr.reserve(static_cast<std::size_t>(n) + 1);
  g.indptr.push_back(0);
  g.indices.resize(static_cast<std::size_t>(n) * k * 2);
  std::int32_t* to = g.indices.data();
  for (int i = 0; i < n; ++i) {
    for (int w = 0; w < words; ++w)
      for (std::uint64_t x = bits[static_cast<std::size_t>(i) * words + w]; x; x &= x - 1)
        *to++ = w * 64 + std::countr_zero(x);
    g.indptr.push_back(to - g.indices.data());
  }
  g.indices.resize(g.indptr[n]);
  return g;
}

Csr symmetric_sorted(std::vector<std::int32_t>& near, int n, int k) {
  Csr g;
  g.indptr.assign(static_cast<std::size_t>(n) + 1, 0);
  // Sort each list; j is a neighbour of i also when i is in j's list but not j in i's.
  for (int i = 0; i < n; ++i)
    std::sort(near.begin() + static_cast<std::ptrdiff_t>(i) * k,
              near.begin() + static_cast<std::ptrdiff_t>(i + 1) * k);
  auto lists = [&](int i, int j) {
    const std::int32_t* row = near.data() + static_cast<std::size_t>(i) * k;
    return std::binary_search(row, row + k, j);
  };
  std::vector<std::int32_t> one_way;  // pairs (i, j), i not in j's list
  for (int i = 0; i < n; ++i)
    for (int t = 0; t < k; ++t) {
      const int j = near[static_cast<std::size_t>(i) * k + t];
      if (!lists(j, i)) {
        one_way.push_back(i);
        one_way.push_back(j);
        ++g.indptr[j + 1];
      }
    }
  for (int i = 0; i < n; ++i) g.indptr[i + 1] += g.indptr[i] + k;
  g.indices.resize(g.indptr[n]);
  std::vector<std::int64_t> at(g.indptr.begin(), g.indptr.end() - 1);
  for (int i = 0; i < n; ++i)
    for (int t = 0; t < k; ++t) g.indices[at[i]++] = near[static_cast<std::size_t>(i) * k + t];
  for (std::size_t e = 0; e < one_way.size(); e += 2) g.indices[at[one_way[e + 1]]++] = one_way[e];
  // Both parts rise: the lists were sorted and the pairs come by rising i.
  for (int i = 0; i < n; ++i)
    std::inplace_merge(g.indices.begin() + g.indptr[i], g.indices.begin() + g.indptr[i] + k,
                       g.indices.begin() + g.indptr[i + 1]);
  return g;
}

// As nearest(); leaves table and tiles to others.
std::vector<std::int32_t> search(Points points, int k, int most, int threads, Control& control,
                                 PointTable& table, Lines& tiles) {
  const int n = static_cast<int>(points.n);
  table = make_table(points, n > kBoxPoints && points.d <= kBoxDimensions, Use::nearest);
  const Variant& v = variant();
  const std::size_t blocks = table.padded / 64;
  if (table.quick && table.box.empty() && n <= most &&
      table.d >= (n <= kMirrorPoints ? kMirrorDimensions : kMirrorManyDimensions)) {
    tiles = Lines(blocks * blocks * 4096);
    parallel(blocks, threads, control, [&](std::int64_t row, Control&) {
      v.inner_tiles(table, static_cast<int>(row), tiles.data());
    });
  }
  std::vector<std::int32_t> near(static_cast<std::size_t>(n) * k);
  parallel(blocks, threads, control, [&](std::int64_t block, Control&) {
    v.nearest_of_block(table, k, static_cast<int>(block), tiles.data(), near.data());
  });
  return near;
}

}  // namespace

std::vector<std::int32_t> nearest(Points points, int k, int threads, Control& control) {
  PointTable table;
  Lines tiles;
  return search(points, k, kMirrorMost, threads, control, table, tiles);
}

Lists lists_of(Points points, const std::int32_t* near, int k, int threads, Control& control) {
  Lists lists;
  lists.points = points;
  lists.k = k;
  const int n = static_cast<int>(points.n);
  lists.near.resize(static_cast<std::size_t>(n) * k);
  for (std::size_t at = 0; at < lists.near.size(); ++at) lists.near[at] = {0, near[at]};
  constexpr int kChunk = 256;
  parallel((n + kChunk - 1) / kChunk, threads, control, [&](std::int64_t chunk, Control&) {
    const int first = static_cast<int>(chunk * kChunk), last = std::min(n, first + kChunk);
    variant().list_squares(points, near, k, first, last, lists.near.data());
    for (int i = first; i < last; ++i) {
      Near* list = lists.near.data() + static_cast<std::size_t>(i) * k;
      std::sort(list, list + k);
    }
  });
  return lists;
}

Lists nearest_lists(Points points, int k, bool keep, int threads, Control& control) {
  PointTable table;
  Lines tiles;
  const std::vector<std::int32_t> near =
      search(points, k, keep ? kKeptPoints : kMirrorMost, threads, control, table, tiles);
  Lists lists = lists_of(points, near.data(), k, threads, control);
  lists.table = std::move(table);
  lists.tiles = std::move(tiles);
  return lists;
}

Csr symmetric(std::vector<std::int32_t>& near, int n, int k) {
  return n <= kPackedPoints ? symmetric_packed(near, n, k) : symmetric_sorted(near, n, k);
}

Csr knn_graph(Points points, int k, int threads, Control& control) {
  const int n = static_cast<int>(points.n);
  if (n < 2 || k < 1) return Csr{std::vector<std::int64_t>(static_cast<std::size_t>(n) + 1, 0), {}};
  k = std::min(k, n - 1);
  std::vector<std::int32_t> near = nearest(points, k, threads, control);
  return symmetric(near, n, k);
}

Csr hop_graph(const std::int64_t* indptr, const std::int32_t* indices, int n, int hops, int threads,
              Control& control) {
  std::vector<std::vector<std::int32_t>> rows(n);
  constexpr int kChunk = 256;
  parallel((n + kChunk - 1) / kChunk, threads, control, [&](std::int64_t chunk, Control& own) {
    std::vector<char> seen(n, 0);
    const int end = static_cast<int>(std::min<std::int64_t>(n, (chunk + 1) * kChunk));
    for (int v = static_cast<int>(chunk * kChunk); v < end; ++v) {
      own.check();
      std::vector<std::int32_t>& row = rows[v];
      row.push_back(v);
      seen[v] = 1;
      for (std::size_t first = 0, h = 0; h < static_cast<std::size_t>(hops) && first < row.size(); ++h) {
        const std::size_t last = row.size();
        for (; first < last; ++first)
          for (std::int64_t t = indptr[row[first]]; t < indptr[row[first] + 1]; ++t)
            if (!seen[indices[t]]) {
              seen[indices[t]] = 1;
              row.push_back(indices[t]);
            }
      }
      for (std::int32_t u : row) seen[u] = 0;
      row.erase(row.begin());
      std::sort(row.begin(), row.end());
      row.shrink_to_fit();
    }
  });
  Csr g;
  g.indptr.assign(static_cast<std::size_t>(n) + 1, 0);
  for (int v = 0; v < n; ++v)
    g.indptr[v + 1] = g.indptr[v] + static_cast<std::int64_t>(rows[v].size());
  g.indices.resize(g.indptr[n]);
  for (int v = 0; v < n; ++v) {
    std::copy(rows[v].begin(), rows[v].end(), g.indices.begin() + g.indptr[v]);
    std::vector<std::int32_t>().swap(rows[v]);
  }
  return g;
}

void hop_rows(const std::int64_t* indptr, const std::int32_t* indices, int n, int hops, int threads,
              Control& control, std::uint64_t* rows) {
  const int words = (n + 63) / 64;
  auto row = [&](std::uint64_t* base, int v) { return base + static_cast<std::size_t>(v) * words; };
  for (int v = 0; v < n; ++v) {
    std::uint64_t* r = row(rows, v);
    r[v >> 6] |= std::uint64_t{1} << (v & 63);
    if (hops > 0)
      for (std::int64_t t = indptr[v]; t < indptr[v + 1]; ++t)
        r[indices[t] >> 6] |= std::uint64_t{1} << (indices[t] & 63);
  }
  // Each further step ors in the neighbours' rows of the step before.
  std::vector<std::uint64_t> before;
  const Variant& var = variant();
  for (int h = 1; h < hops; ++h) {
    before.assign(rows, rows + static_cast<std::size_t>(n) * words);
    parallel((n + 63) / 64, threads, control, [&](std::int64_t chunk, Control&) {
      for (int v = static_cast<int>(chunk * 64); v < std::min<std::int64_t>(n, (chunk + 1) * 64); ++v)
        var.or_rows(before.data(), indices + indptr[v], static_cast<int>(indptr[v + 1] - indptr[v]),
                    words, row(rows, v));
    });
    if (before == std::vector<std::uint64_t>(rows, rows + before.size())) break;
  }
}

}  // namespace unknot
