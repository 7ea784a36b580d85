// Counts the operations of libtorch that compute, by name. Called by src/lm/operations.rs only.

#include "message.h"

#include <ATen/record_function.h>

#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

namespace {

// Operations that compute nothing themselves: they look at what is there otherwise, ask for memory, or
// are made of others.
const std::unordered_set<std::string> kNothing{
    "aten::_reshape_alias", "aten::_unsafe_view", "aten::alias", "aten::as_strided",
    "aten::chunk", "aten::contiguous", "aten::detach", "aten::empty", "aten::empty_like",
    "aten::empty_strided", "aten::expand", "aten::expand_as", "aten::flatten", "aten::lift_fresh",
    "aten::narrow", "aten::numpy_T", "aten::permute", "aten::reshape", "aten::resize_",
    "aten::resolve_conj", "aten::resolve_neg", "aten::result_type", "aten::select", "aten::slice", "aten::split", "aten::split_with_sizes",
    "aten::squeeze", "aten::t", "aten::to", "aten::transpose", "aten::type_as", "aten::unsqueeze",
    "aten::view", "aten::view_as", "detach",
};

// Operations that are one kernel on a GPU, whatever they are made of here.
const std::unordered_set<std::string> kWhole{
    "aten::_flash_attention_forward",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::add", "aten::add_", "aten::addmm", "aten::bmm", "aten::mm", "aten::mul", "aten::mul_",
    "aten::rms_norm", "aten::sub",
};

struct Running {
  std::string name;
  bool counted_below;
};

struct Counts {
  std::map<std::string, uint64_t> computing;
  uint64_t allocations = 0;
  std::vector<Running> running;
  // Operations within one that is whole.
  size_t within = 0;
};

thread_local Counts counts;

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
  const std::string name = function.name();
  if (name == "aten::empty" || name == "aten::empty_strided") {
    ++counts.allocations;
  }
  counts.within += kWhole.count(name);
  counts.running.push_back({name, false});
  return nullptr;
}

void end(const at::RecordFunction&, at::ObserverContext*) {
  if (counts.running.empty()) {
    return;
  }
  const Running done = counts.running.back();
  counts.running.pop_back();
  const bool whole = kWhole.count(done.name) > 0;
  counts.within -= whole;
  const bool computes = counts.within == 0 &&
      (whole || (!done.counted_below && kNothing.count(done.name) == 0));
  if (computes) {
    ++counts.computing[done.name];
  }
  if (!counts.running.empty() && (computes || done.counted_below || whole)) {
    counts.running.back().counted_below = true;
  }
}

} // namespace

extern "C" {

// Begins to count on this thread, and returns what ends it.
uint64_t w2s_operations_begin() {
  counts = Counts();
  return at::addThreadLocalCallback(
      at::RecordFunctionCallback(begin, end).scopes({at::RecordScope::FUNCTION}));
}

// Ends it: writes the number of allocations, and a line of name and number for each operation.
void w2s_operations_end(uint64_t handle, uint64_t* allocations, char* text, size_t size) {
  at::removeCallback(handle);
  std::string lines;
  for (const auto& [name, num] : counts.computing) {
    lines += name + " " + std::to_string(num) + "\n";
  }
  *allocations = counts.allocations;
  Message{text, size}.set(lines.c_str());
}

} // extern "C"
