// Built once per instruction set, with UNKNOT_VARIANT naming the namespace.
#include "variant.hpp"

#include "betti.hpp"
#include "distances.hpp"
#include "folds.hpp"
#include "foreign.hpp"
#include "knn.hpp"
#include "tiles.hpp"

namespace unknot {
namespace UNKNOT_VARIANT {

static void or_rows(const Word* rows, const std::int32_t* which, int count, int words, Word* out) {
  for (int t = 0; t < count; ++t) {
    const Word* r = rows + static_cast<std::size_t>(which[t]) * words;
    for (int k = 0; k < words; ++k) out[k] |= r[k];
  }
}

}  // namespace UNKNOT_VARIANT

#define UNKNOT_TEXT_OF(x) #x
#define UNKNOT_TEXT(x) UNKNOT_TEXT_OF(x)
#define UNKNOT_JOIN_OF(a, b) a##b
#define UNKNOT_JOIN(a, b) UNKNOT_JOIN_OF(a, b)

extern const Variant UNKNOT_JOIN(UNKNOT_VARIANT, _variant) = {
    UNKNOT_TEXT(UNKNOT_VARIANT),
    UNKNOT_VARIANT::betti_dense,
    UNKNOT_VARIANT::betti_sparse,
    UNKNOT_VARIANT::point_tiles,
    UNKNOT_VARIANT::distance_tiles<double>,
    UNKNOT_VARIANT::distance_tiles<float>,
    UNKNOT_VARIANT::nearest_of_block,
    UNKNOT_VARIANT::list_squares,
    UNKNOT_VARIANT::inner_tiles,
    UNKNOT_VARIANT::nearest_foreign,
    UNKNOT_VARIANT::or_rows,
    UNKNOT_VARIANT::zfold,
    UNKNOT_VARIANT::zfold_backward,
    UNKNOT_VARIANT::qfold,
    UNKNOT_VARIANT::qfold_backward,
};

}  // namespace unknot
