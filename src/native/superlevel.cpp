// Islands: the peaks of density that stand out of the noise, over all levels at once.
//
// The density is that of the k-th nearest neighbour, its logarithm m times the negative logarithm of the
// distance, for m the intrinsic dimension (Levina and Bickel 2004, averaged as by MacKay and Ghahramani).
// Points enter by falling density; a component of the entered part of a graph is born with a peak, and where
// two meet the lower peak dies (H0 of superlevel sets; Chazal, Guibas, Oudot and Skraba 2013). The graph is
// that of the k nearest neighbours, and of companions: pairs that k points no sparser than themselves have
// both among their neighbours. In high dimension the densest points, those of small norm, are near to very
// many and seldom to each other, so that without companions one cloud has several peaks.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine.hpp"

namespace unknot {

namespace {

constexpr double kInfinite = HUGE_VAL;
// A mean of log(r / d) below this is rounding: all k neighbours of every point are equally far.
constexpr double kLeastLog = 1e-12;
// A point is no sparser than another when its radius is at most 1.2 times as great: the logarithm of that, a
// little off lest rounding decide on lattices.
constexpr double kMostLog = 0.1823;

// The logarithm of the distance of two points that differ, whatever their unit; squared: what float64
// gives for its square.
template <class T>
double log_distance(const T* x, const T* y, int d, double squared) {
  if (squared > 0x1p-900 && squared < 0x1p1000) return 0.5 * std::log(squared);
  double share = 1, greatest = 0;
  auto survey = [&] {
    greatest = 0;
    for (int f = 0; f < d; ++f) greatest = std::max(greatest, std::abs(x[f] * share - y[f] * share));
  };
  survey();
  if (std::isinf(greatest)) {
    share = 0.25;
    survey();
  }
  const int unit = std::ilogb(greatest);
  double sum = 0;
  for (int f = 0; f < d; ++f) {
    const double step = std::ldexp(x[f] * share - y[f] * share, -unit);
    sum += step * step;
  }
  return 0.5 * std::log(sum) + unit * std::log(2.0) - std::log(share);
}

template <class T>
void add_logs(const Lists& lists, int i, double* logs) {
  const int d = lists.points.d;
  const T* source = static_cast<const T*>(lists.points.data);
  const Near* list = lists.of(i);
  for (int t = 0; t < lists.k; ++t)
    logs[t] = log_distance(source + static_cast<std::size_t>(i) * d,
                           source + static_cast<std::size_t>(list[t].number) * d, d, list[t].squared);
}

// Pairs that k points or more, none sparser than the sparser of the two, have both among their k nearest.
class Companions {
 public:
  Companions(const std::vector<std::int32_t>& near, const std::vector<double>& log_radius, int k)
      : log_radius_(log_radius), k_(k), first_(log_radius.size() + 1), holders_(near.size()),
        entered_(near.size()), count_(log_radius.size()), times_(log_radius.size()) {
    for (std::int32_t u : near) ++first_[u + 1];
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    std::vector<std::int64_t> at(first_.begin(), first_.end() - 1);
    for (std::size_t e = 0; e < near.size(); ++e) holders_[at[near[e]]++] = static_cast<std::int32_t>(e / k);
  }
  // Calls use(u) for the companions of v that have entered before it, the denser ones.
  template <class Use>
  void enter(int v, Use use) {
    if (first_[v + 1] - first_[v] < k_) return;
    dense_.clear();
    for (std::int64_t h = first_[v]; h < first_[v + 1]; ++h)
      if (log_radius_[holders_[h]] <= log_radius_[v] + kMostLog) dense_.push_back(holders_[h]);
    if (static_cast<int>(dense_.size()) >= k_) {
      seen_.clear();
      for (std::int32_t w : dense_)
        for (const std::int32_t *u = list(w), *end = u + count_[w]; u != end; ++u)
          if (++times_[*u] == 1) seen_.push_back(*u);
      for (std::int32_t u : seen_) {
        if (times_[u] >= k_) use(u);
        times_[u] = 0;
      }
    }
    for (std::int64_t h = first_[v]; h < first_[v + 1]; ++h) {
      const std::int32_t w = holders_[h];
      list(w)[count_[w]++] = v;
    }
  }

 private:
  std::int32_t* list(int w) { return entered_.data() + static_cast<std::size_t>(w) * k_; }

  const std::vector<double>& log_radius_;
  const int k_;
  std::vector<std::int64_t> first_;  // where the holders of a point begin: those who have it among their k
  std::vector<std::int32_t> holders_;
  std::vector<std::int32_t> entered_;  // of the k of each point those who have entered and have k holders
  std::vector<std::int32_t> count_, times_, dense_, seen_;
};

// Components, each known by its highest peak.
class Forest {
 public:
  explicit Forest(int n) : parent_(n) { std::iota(parent_.begin(), parent_.end(), 0); }
  int find(int v) {
    while (parent_[v] != v) v = parent_[v] = parent_[parent_[v]];
    return v;
  }
  void put(int v, int under) { parent_[v] = under; }

 private:
  std::vector<int> parent_;
};

// Points are numbered by falling density.
Islands rise(const Csr& graph, Companions companions, const std::vector<double>& log_radius,
             double dimension, int k, double z, Control& control) {
  const int n = static_cast<int>(log_radius.size());
  std::vector<int> entered;
  const double unit = dimension / std::sqrt(2.0 / k);
  // `pieces` joins all that meets, `islands` only what is lower than z: where several that are not meet,
  // what is lower goes to the one whose point is the denser.
  Forest pieces(n), islands(n);
  std::vector<double> prominence(n, -1);  // of peaks
  for (int v = 0; v < n; ++v) {
    control.check();
    entered.clear();
    for (std::int64_t t = graph.indptr[v]; t < graph.indptr[v + 1] && graph.indices[t] < v; ++t)
      entered.push_back(graph.indices[t]);
    const std::size_t neighbours = entered.size();
    companions.enter(v, [&](int u) { entered.push_back(u); });
    if (entered.empty()) {
      prominence[v] = kInfinite;
      continue;
    }
    if (entered.size() > neighbours) std::sort(entered.begin(), entered.end());
    pieces.put(v, pieces.find(entered[0]));
    islands.put(v, islands.find(entered[0]));
    for (int u : entered) {
      const int a = pieces.find(u), b = pieces.find(v);
      if (a != b) {
        const int low = std::max(a, b);
        prominence[low] = (log_radius[v] - log_radius[low]) * unit;
        pieces.put(low, low == a ? b : a);
      }
      const int c = islands.find(u), e = islands.find(v);
      const int low = std::max(c, e);
      if (c != e && (log_radius[v] - log_radius[low]) * unit < z) islands.put(low, low == c ? e : c);
    }
  }
  std::vector<int> peaks;
  for (int v = 0; v < n; ++v)
    if (prominence[v] >= 0) peaks.push_back(v);
  std::stable_sort(peaks.begin(), peaks.end(), [&](int a, int b) { return prominence[a] > prominence[b]; });
  Islands out;
  out.dimension = dimension;
  std::vector<std::int64_t> number(n, -1);
  for (std::size_t i = 0; i < peaks.size(); ++i) {
    number[peaks[i]] = static_cast<std::int64_t>(i);
    out.prominences.push_back(prominence[peaks[i]]);
  }
  for (int v = 0; v < n; ++v) out.members.push_back(number[islands.find(v)]);
  return out;
}

}  // namespace

std::vector<double> list_logs(const Lists& lists, int threads, Control& control) {
  constexpr int kChunk = 256;
  const int n = static_cast<int>(lists.points.n);
  std::vector<double> logs(lists.near.size());
  parallel((n + kChunk - 1) / kChunk, threads, control, [&](std::int64_t chunk, Control&) {
    for (int i = static_cast<int>(chunk * kChunk); i < std::min<std::int64_t>(n, (chunk + 1) * kChunk); ++i) {
      double* to = logs.data() + static_cast<std::size_t>(i) * lists.k;
      lists.points.is_double ? add_logs<double>(lists, i, to) : add_logs<float>(lists, i, to);
    }
  });
  return logs;
}

Islands islands_of(const Near* near, const double* logs, int stride, int n, int k, double z, Control& control) {
  std::vector<std::pair<double, int>> order(n);  // (log r, number): by falling density, ties by number
  double sum = 0;                                // of the mean of log(r / d) of each point
  for (int i = 0; i < n; ++i) {
    const double* log = logs + static_cast<std::size_t>(i) * stride;
    order[i] = {*std::max_element(log, log + k), i};
    double spread = 0;
    for (int t = 0; t < k; ++t) spread += order[i].first - log[t];
    sum += spread / (k - 1);
  }
  std::sort(order.begin(), order.end());
  std::vector<int> rank(n);
  std::vector<double> log_radius(n);
  for (int at = 0; at < n; ++at) {
    rank[order[at].second] = at;
    log_radius[at] = order[at].first;
  }
  std::vector<std::int32_t> ranked(static_cast<std::size_t>(n) * k);
  for (int i = 0; i < n; ++i)
    for (int t = 0; t < k; ++t)
      ranked[static_cast<std::size_t>(rank[i]) * k + t] = rank[near[static_cast<std::size_t>(i) * stride + t].number];
  const double dimension = 1 / std::max(sum / n, kLeastLog);
  const Csr graph = symmetric(ranked, n, k);
  Islands out = rise(graph, {ranked, log_radius, k}, log_radius, dimension, k, z, control);
  std::vector<std::int64_t> members(n);
  for (int i = 0; i < n; ++i) members[i] = out.members[rank[i]];
  out.members = std::move(members);
  return out;
}

std::vector<Islands> find_islands(const std::vector<Points>& clouds, int k, double z, int threads,
                                  Control& control) {
  std::vector<Islands> out(clouds.size());
  const int inner = clouds.size() == 1 ? threads : 1;
  parallel(static_cast<std::int64_t>(clouds.size()), clouds.size() == 1 ? 1 : threads, control,
           [&](std::int64_t i, Control& own) {
             const int n = static_cast<int>(clouds[i].n);
             const Lists lists = nearest_lists(clouds[i], k, false, inner, own);
             const std::vector<double> logs = list_logs(lists, inner, own);
             out[i] = islands_of(lists.near.data(), logs.data(), k, n, k, z, own);
           });
  return out;
}

}  // namespace unknot
