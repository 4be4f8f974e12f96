// Questions about one link: the flag complex on the neighbours of a vertex, as a small packed graph.
#pragma once

#include "bits.hpp"

namespace unknot::UNKNOT_VARIANT {

// m vertices, m x words bits, each its own neighbour. `present` are those not yet removed.
struct Link {
  int m = 0, words = 0;
  Buffer<Word> rows, present;

  void reshape(int vertices) {
    m = vertices;
    words = words_for(vertices);
    rows.resize(static_cast<std::size_t>(m) * words);
    present.resize(words);
    fill_ones(present.data(), m);
  }
  const Word* row(int y) const { return rows.data() + static_cast<std::size_t>(y) * words; }
  Word* row(int y) { return rows.data() + static_cast<std::size_t>(y) * words; }
};

UNKNOT_INLINE bool is_subset(const Word* a, const Word* mask, const Word* b, int words) {
  for (int k = 0; k < words; ++k)
    if (a[k] & mask[k] & ~b[k]) return false;
  return true;
}

// Some vertex of `set` is adjacent to all of it: its flag complex is a cone, hence contractible.
inline bool is_cone(const Link& link, const Word* set) {
  for (int k = 0; k < link.words; ++k)
    for (Word x = set[k]; x; x &= x - 1)
      if (is_subset(set, set, link.row(k * 64 + lowest_bit(x)), link.words)) return true;
  return false;
}

// The graph on the non-empty `set` is connected. Whole rows are or-ed, so that a dense link is
// covered after two to four of them.
inline bool is_connected(const Link& link, const Word* set, Word* seen, Word* done) {
  const int words = link.words;
  if (words == 1) {
    const Word* rows = link.rows.data();
    Word reached = rows[lowest_bit(set[0])] & set[0], used = set[0] & (~set[0] + 1);
    while (reached != set[0]) {
      const Word next = reached & ~used;
      if (!next) return false;
      used |= next & (~next + 1);
      reached |= rows[lowest_bit(next)] & set[0];
    }
    return true;
  }
  int start = 0;
  while (!set[start]) ++start;
  int x = start * 64 + lowest_bit(set[start]);
  for (int k = 0; k < words; ++k) seen[k] = done[k] = 0;
  for (;;) {
    set_bit(done, x);
    const Word* r = link.row(x);
    Word missing = 0;
    for (int k = 0; k < words; ++k) {
      seen[k] |= r[k] & set[k];
      missing |= set[k] & ~seen[k];
    }
    if (!missing) return true;
    x = -1;
    for (int k = 0; k < words; ++k)
      if (const Word next = seen[k] & ~done[k]) {
        x = k * 64 + lowest_bit(next);
        break;
      }
    if (x < 0) return false;
  }
}

// If dominated vertices can be removed from `set` until no edge is left, every component was
// contractible: returns how many there were. Otherwise -1, which says nothing. Destroys `set`.
inline int contractible_components(const Link& link, Word* set) {
  const int words = link.words;
  for (bool changed = true; changed;) {
    changed = false;
    for (int k = 0; k < words; ++k)
      for (Word x = set[k]; x; x &= x - 1) {
        const int z = k * 64 + lowest_bit(x);
        const Word* rz = link.row(z);
        bool dominated = false;
        for (int j = 0; j < words && !dominated; ++j) {
          Word others = rz[j] & set[j];
          if (j == k) others &= ~(Word{1} << (z & 63));
          for (; others && !dominated; others &= others - 1)
            dominated = is_subset(rz, set, link.row(j * 64 + lowest_bit(others)), words);
        }
        if (dominated) {
          clear_bit(set, z);
          changed = true;
        }
      }
  }
  int count = 0;
  for (int k = 0; k < words; ++k)
    for (Word x = set[k]; x; x &= x - 1) {
      const int z = k * 64 + lowest_bit(x);
      ++count;
      for (int j = 0; j < words; ++j) {
        Word others = link.row(z)[j] & set[j];
        if (j == k) others &= ~(Word{1} << (z & 63));
        if (others) return -1;
      }
    }
  return count;
}

}  // namespace unknot::UNKNOT_VARIANT
