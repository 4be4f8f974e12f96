#pragma once

#include <nanobind/nanobind.h>

void bind_folds(nanobind::module_& m);
