// The Euclidean minimum spanning tree by rounds of Boruvka: every component takes its shortest edge to
// another. Edges are ordered by (squared distance, lower number, higher number), so that there is one tree.
//
// A point's lists of nearest neighbours tell its nearest foreign one exactly while they hold any: for one
// point, that order is the order of the lists. A point whose list is used up has no foreign one nearer than
// `reach`, and is searched for only where its component has found nothing as near. What was searched once
// is kept: components only grow, so that `reach` stays right and a partner is right until it is joined.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine.hpp"

namespace unknot {

namespace {

// Boxes tell components apart in so many dimensions, and places follow space from so many points on.
constexpr int kBoxDimensions = 32, kSortPoints = 1024;
constexpr double kLeastSquare = 0x1p-900, kMostSquare = 0x1p1000;

struct Edge {
  double squared = HUGE_VAL;
  std::int32_t low = -1, high = -1;

  bool operator<(const Edge& o) const {
    if (squared != o.squared) return squared < o.squared;
    return low != o.low ? low < o.low : high < o.high;
  }
};

// The square of what no distance exceeds: the diagonal of the box around all points.
template <class T>
double greatest_square(Points p) {
  const T* x = static_cast<const T*>(p.data);
  std::vector<T> low(x, x + p.d), high = low;
  for (std::int64_t i = 0; i < p.n; ++i, x += p.d)
    for (int f = 0; f < p.d; ++f) {
      low[f] = std::min(low[f], x[f]);
      high[f] = std::max(high[f], x[f]);
    }
  double sum = 0;
  for (int f = 0; f < p.d; ++f) {
    const double side = static_cast<double>(high[f]) - static_cast<double>(low[f]);
    sum += side * side;
  }
  return sum;
}

class Boruvka {
 public:
  Boruvka(const Lists& lists, const std::vector<std::int32_t>& members, int threads)
      : lists_(lists), members_(members), n_(static_cast<int>(lists.points.n)), threads_(threads), parent_(n_),
        component_(n_, kAbsent), size_(n_), at_(n_, 0), partner_(n_, -1), reach_(n_), best_(n_) {
    std::iota(parent_.begin(), parent_.end(), 0);
    for (int i : members) reach_[i] = lists.of(i)[lists.k - 1].squared;
  }

  std::vector<std::int32_t> run(Control& control) {
    while (edges_.size() + 2 < 2 * members_.size()) {
      control.check_now();
      number_components();
      std::fill(best_.begin(), best_.end(), Edge{});
      for (int i : members_) offer_known(i);
      search(control);
      for (int c : members_)
        if (parent_[c] == c && c != unsure_) join(best_[c]);
    }
    return std::move(edges_);
  }

 private:
  static constexpr int kAbsent = -1;  // the component of those that are no members

  int find(int v) {
    while (parent_[v] != v) v = parent_[v] = parent_[parent_[v]];
    return v;
  }

  void number_components() {
    std::fill(size_.begin(), size_.end(), 0);
    for (int i : members_) ++size_[component_[i] = find(i)];
  }

  // An edge between two components bounds the shortest of both.
  void offer(int i, double squared, int j) {
    const Edge edge{squared, std::min(i, j), std::max(i, j)};
    for (int c : {component_[i], component_[j]}) best_[c] = std::min(best_[c], edge);
  }

  void offer_known(int i) {
    const Near* list = lists_.of(i);
    for (; at_[i] < lists_.k; ++at_[i]) {
      const std::int32_t other = component_[list[at_[i]].number];
      if (other != component_[i] && other != kAbsent) break;
    }
    if (at_[i] < lists_.k) return offer(i, list[at_[i]].squared, list[at_[i]].number);
    if (partner_[i] >= 0 && component_[partner_[i]] == component_[i]) partner_[i] = -1;
    if (partner_[i] >= 0) offer(i, reach_[i], partner_[i]);
  }

  // Finds what is not known of all components but the largest, which is joined to by the others.
  void search(Control& control) {
    const int largest = static_cast<int>(std::max_element(size_.begin(), size_.end()) - size_.begin());
    std::vector<char> open(n_, 0);
    bool any = false;
    unsure_ = -1;
    for (int i : members_) {
      const int c = component_[i];
      if (at_[i] < lists_.k || partner_[i] >= 0 || reach_[i] > best_[c].squared) continue;
      if (c == largest)
        unsure_ = c;
      else
        open[i] = any = true;
    }
    if (!any) return;
    const PointTable& table = table_to_search();
    std::vector<std::int32_t> whole(table.padded / 64);
    for (std::size_t b = 0; b < whole.size(); ++b) {
      whole[b] = component_[table.order[b * 64]];
      for (int place = static_cast<int>(b) * 64; place < std::min(n_, static_cast<int>(b) * 64 + 64); ++place)
        if (component_[table.order[place]] != whole[b]) whole[b] = -1;
    }
    std::vector<double> bound(n_);
    for (int c = 0; c < n_; ++c) bound[c] = best_[c].squared;
    const ForeignSearch found{component_.data(), bound.data(),     open.data(),
                              whole.data(),      lists_.tiles.data(), reach_.data(), partner_.data()};
    const Variant& v = variant();
    parallel(table.padded / 64, threads_, control, [&](std::int64_t block, Control&) {
      v.nearest_foreign(table, found, static_cast<int>(block));
    });
    for (int i : members_)
      if (open[i] && partner_[i] >= 0) offer(i, reach_[i], partner_[i]);
  }

  // That of the lists, unless boxes do better.
  const PointTable& table_to_search() {
    const Points& p = lists_.points;
    const bool boxes = p.d <= kBoxDimensions;
    if (lists_.table.quick && (lists_.tiles.data() || !boxes)) return lists_.table;
    if (table_.n == 0) table_ = make_table(p, n_ > kSortPoints && boxes, boxes ? Use::exact : Use::nearest);
    return table_;
  }

  void join(const Edge& edge) {
    const int a = find(edge.low), b = find(edge.high);
    if (a == b) return;  // the other took the same edge
    parent_[b] = a;
    edges_.push_back(edge.low);
    edges_.push_back(edge.high);
  }

  const Lists& lists_;
  const std::vector<std::int32_t>& members_;
  int n_, threads_, unsure_ = -1;  // unsure_: the component whose shortest edge is not known
  std::vector<std::int32_t> parent_, component_, size_, at_, partner_, edges_;
  std::vector<double> reach_;
  std::vector<Edge> best_;
  PointTable table_;
};

}  // namespace

bool squares_fit(const Lists& lists) {
  const Points& points = lists.points;
  const double most = points.is_double ? greatest_square<double>(points) : greatest_square<float>(points);
  double least = most;
  for (std::int64_t i = 0; i < points.n; ++i)
    least = std::min(least, lists.of(static_cast<int>(i))[0].squared);
  return least > kLeastSquare && most < kMostSquare;
}

std::vector<std::int32_t> spanning_tree(const Lists& lists, const std::vector<std::int32_t>& members,
                                        int threads, Control& control) {
  return Boruvka(lists, members, threads).run(control);
}

}  // namespace unknot
