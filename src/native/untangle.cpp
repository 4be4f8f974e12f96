// Islands, spanning trees and nearest neighbours of a cloud and of parts of it, from one search.
//
// The nearest of a point in a part are the first of its list that are in the part. With lists four times as
// long as what is wanted, halves lack some of them for one point in some ten thousand, which is then compared
// with the whole part.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine.hpp"

namespace unknot {

namespace {

constexpr int kLonger = 4;

template <class T>
double squared_distance(Points p, int i, int j) {
  const T* x = static_cast<const T*>(p.data) + static_cast<std::size_t>(i) * p.d;
  const T* y = static_cast<const T*>(p.data) + static_cast<std::size_t>(j) * p.d;
  double sum = 0;
  for (int f = 0; f < p.d; ++f) {
    const double step = static_cast<double>(x[f]) - static_cast<double>(y[f]);
    sum += step * step;
  }
  return sum;
}

// The first of each list that are in a part, by place there.
class PartLists {
 public:
  PartLists(const Lists& lists, const std::vector<double>& logs, const std::vector<std::int32_t>& members, int k)
      : near(members.size() * k), logs(members.size() * k), place_(lists.points.n, -1) {
    for (std::size_t at = 0; at < members.size(); ++at) place_[members[at]] = static_cast<int>(at);
    for (std::size_t at = 0; at < members.size(); ++at) {
      const Near* list = lists.of(members[at]);
      const double* log = logs_of(lists, logs, members[at]);
      std::size_t to = at * k;
      for (int t = 0; t < lists.k && to < (at + 1) * k; ++t) {
        const std::int32_t place = place_[list[t].number];
        near[to] = {list[t].squared, place};
        this->logs[to] = log[t];
        to += place >= 0;
      }
      if (to < (at + 1) * k) compare_all(lists.points, members, static_cast<int>(at), k);
    }
  }
  int place(int i) const { return place_[i]; }
  std::vector<Near> near;    // [m, k]
  std::vector<double> logs;  // [m, k]

 private:
  static const double* logs_of(const Lists& lists, const std::vector<double>& logs, int i) {
    return logs.data() + static_cast<std::size_t>(i) * lists.k;
  }
  void compare_all(Points p, const std::vector<std::int32_t>& members, int at, int k) {
    std::vector<Near> all;
    for (int other = 0; other < static_cast<int>(members.size()); ++other) {
      if (other == at) continue;
      const int i = members[at], j = members[other];
      all.push_back({p.is_double ? squared_distance<double>(p, i, j) : squared_distance<float>(p, i, j), other});
    }
    std::partial_sort(all.begin(), all.begin() + k, all.end());
    for (int t = 0; t < k; ++t) {
      near[static_cast<std::size_t>(at) * k + t] = all[t];
      logs[static_cast<std::size_t>(at) * k + t] = 0.5 * std::log(all[t].squared);
    }
  }
  std::vector<std::int32_t> place_;  // of each point in the part, or -1
};

}  // namespace

std::vector<Untangled> untangle(Points points, const UntangleOptions& options, const std::int32_t* parts,
                                int count, int size, int threads, Control& control) {
  const int n = static_cast<int>(points.n), wanted = std::max(options.k, options.nearest);
  const int k = count ? std::min(kLonger * wanted, n - 1) : wanted;
  const Lists lists = nearest_lists(points, k, count > 0, threads, control);
  if (!squares_fit(lists)) return {};
  const std::vector<double> logs = list_logs(lists, threads, control);
  std::vector<Untangled> out(static_cast<std::size_t>(count) + 1);
  parallel(count + 1, threads, control, [&](std::int64_t part, Control& own) {
    std::vector<std::int32_t> members(part ? size : n);
    if (part)
      std::copy_n(parts + (part - 1) * size, size, members.begin());
    else
      std::iota(members.begin(), members.end(), 0);
    const PartLists own_lists(lists, logs, members, wanted);
    const int m = static_cast<int>(members.size());
    Untangled& found = out[part];
    found.islands =
        islands_of(own_lists.near.data(), own_lists.logs.data(), wanted, m, options.k, options.z, own);
    found.near.reserve(static_cast<std::size_t>(m) * options.nearest);
    for (int i = 0; i < m; ++i)
      for (int t = 0; t < options.nearest; ++t)
        found.near.push_back(own_lists.near[static_cast<std::size_t>(i) * wanted + t].number);
    if (options.tree) found.edges = spanning_tree(lists, members, count ? 1 : threads, own);
    for (std::int32_t& end : found.edges) end = own_lists.place(end);
  });
  return out;
}

}  // namespace unknot
