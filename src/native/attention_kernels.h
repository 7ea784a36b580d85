// The kernels of attention over sequences of various lengths: FlashAttention, libtorch's flash attention
// for the CPU, and products by parts. Included by attention.cpp only.
//
// Every operation is called through the dispatcher, so that this links against the CPU half of libtorch
// and finds the kernels of CUDA where that half is loaded.
//
// Legend of shapes: T queries and U keys of a call, N heads, K key heads, G query heads per key head, H
// head size, l queries of a sequence.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <limits>
#include <vector>

// One call; mirrored in src/lm/varlen.rs.
struct W2sCall {
  // The rows of the pass that are its queries, i64; null: all of them.
  const at::Tensor* queries;
  // The rows of the cache that are its keys, i64; null: `num_keys` from `first_key` on.
  const at::Tensor* keys;
  int64_t first_key;
  int64_t num_keys;
  // Where sequences begin and end among these: `num + 1` numbers, i32 on the device and here.
  const at::Tensor* query_bounds;
  const at::Tensor* key_bounds;
  const int64_t* query_bounds_here;
  const int64_t* key_bounds_here;
  int64_t num;
  // A sequence's last query sees its last key, and each before it one key less.
  int32_t causal;
  // How many keys before its last a query sees; -1: all. Of causal calls only.
  int64_t left;
};

namespace {

enum Kernel : int32_t { kFlash = 0, kFlashForCpu = 1, kMath = 2 };

// Scores that are held at once, in f32: a quarter of a gigabyte.
constexpr int64_t kScores = int64_t{1} << 26;

struct Call {
  at::Tensor queries;
  at::Tensor keys;
  int64_t first_key;
  int64_t num_keys;
  at::Tensor query_bounds;
  at::Tensor key_bounds;
  std::vector<int64_t> query_bounds_here;
  std::vector<int64_t> key_bounds_here;
  int64_t max_queries = 0;
  int64_t max_keys = 0;
  bool causal;
  int64_t left;

  explicit Call(const W2sCall& from)
      : first_key(from.first_key),
        num_keys(from.num_keys),
        query_bounds(*from.query_bounds),
        key_bounds(*from.key_bounds),
        query_bounds_here(from.query_bounds_here, from.query_bounds_here + from.num + 1),
        key_bounds_here(from.key_bounds_here, from.key_bounds_here + from.num + 1),
        causal(from.causal != 0),
        left(from.left) {
    if (from.queries != nullptr) {
      queries = *from.queries;
    }
    if (from.keys != nullptr) {
      keys = *from.keys;
    }
    for (int64_t i = 0; i < from.num; ++i) {
      const int64_t num_queries = query_bounds_here[i + 1] - query_bounds_here[i];
      if (num_queries > 0) {
        max_queries = std::max(max_queries, num_queries);
        max_keys = std::max(max_keys, key_bounds_here[i + 1] - key_bounds_here[i]);
      }
    }
  }

  at::Tensor of_queries(const at::Tensor& x, int64_t axis = 0) const {
    return queries.defined() ? x.index_select(axis, queries) : x;
  }

  at::Tensor of_keys(const at::Tensor& x_skh) const {
    return keys.defined() ? x_skh.index_select(0, keys) : x_skh.narrow(0, first_key, num_keys);
  }

  void add_queries(const at::Tensor& all, const at::Tensor& part) const {
    if (queries.defined()) {
      all.index_add_(0, queries, part.to(all.scalar_type()));
    } else {
      all.add_(part);
    }
  }

  void add_keys(const at::Tensor& all, const at::Tensor& part) const {
    if (keys.defined()) {
      all.index_add_(0, keys, part.to(all.scalar_type()));
    } else {
      all.narrow(0, first_key, num_keys).add_(part);
    }
  }

  // Every key is a key of the call once, in its order.
  bool takes_all_keys(int64_t num) const {
    return !keys.defined() && first_key == 0 && num_keys == num;
  }
};

// What a call gives: `[T, N, H]`, and the logarithms of the sums of exponentials, `[N, T]` in f32.
struct Seen {
  at::Tensor out;
  at::Tensor lse;
};

struct Grads {
  at::Tensor q;
  at::Tensor k;
  at::Tensor v;
};

std::optional<c10::SymInt> left_of(const Call& call) {
  return call.left >= 0 ? std::optional<c10::SymInt>(call.left) : std::nullopt;
}

std::optional<c10::SymInt> right_of(const Call& call) {
  return call.left >= 0 ? std::optional<c10::SymInt>(0) : std::nullopt;
}

// A call whose sequences all have one query is another kernel's in there, which has been seen to want
// one query of every sequence; ours may have none.
int64_t at_least_two(int64_t num) {
  return std::max<int64_t>(num, 2);
}

Seen flash(
    const Call& call,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    double scale) {
  auto [out, lse, rng, unused, debug] = at::_flash_attention_forward_symint(
      q, k, v, call.query_bounds, call.key_bounds, at_least_two(call.max_queries), call.max_keys,
      /*dropout_p=*/0.0, call.causal, /*return_debug_mask=*/false, scale, left_of(call),
      right_of(call));
  return {out, lse};
}

Grads flash_backward(
    const Call& call,
    const at::Tensor& grad,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    const Seen& seen,
    double scale) {
  // The state of a generator that is never asked, as nothing is dropped.
  const at::Tensor rng = at::zeros({2}, q.options().dtype(at::kUInt64));
  auto [dq, dk, dv] = at::_flash_attention_backward_symint(
      grad, q, k, v, seen.out, seen.lse.contiguous(), call.query_bounds, call.key_bounds,
      at_least_two(call.max_queries), call.max_keys, /*dropout_p=*/0.0, call.causal, rng, rng, scale,
      left_of(call), right_of(call));
  return {dq, dk, dv};
}

// A sequence of a call.
struct Sequence {
  int64_t query;
  int64_t num_queries;
  int64_t key;
  int64_t num_keys;
};

// Calls `work` for each sequence that has queries.
template <class F>
void each(const Call& call, F work) {
  for (size_t i = 0; i + 1 < call.query_bounds_here.size(); ++i) {
    const int64_t query = call.query_bounds_here[i];
    const int64_t key = call.key_bounds_here[i];
    const Sequence at{
        query, call.query_bounds_here[i + 1] - query, key, call.key_bounds_here[i + 1] - key};
    if (at.num_queries > 0) {
      work(at);
    }
  }
}

// What queries from `first` on do not see: true there, `[num, U]`; undefined: nothing.
at::Tensor unseen(
    const Call& call,
    const Sequence& at,
    int64_t first,
    int64_t num,
    at::Device device) {
  if (!call.causal) {
    return {};
  }
  const int64_t last = at.num_keys - at.num_queries + first;
  const at::Tensor ones = at::ones({num, at.num_keys}, at::TensorOptions(at::kBool).device(device));
  at::Tensor not_yet = ones.triu(last + 1);
  if (call.left >= 0) {
    not_yet = not_yet.logical_or(ones.tril(last - call.left - 1));
  }
  return not_yet;
}

// A sequence's rows with heads before them: `[1, N, l, H]`.
at::Tensor by_head(const at::Tensor& x, int64_t first, int64_t num) {
  return x.narrow(0, first, num).transpose(0, 1).unsqueeze(0);
}

// The mask of a sequence, if the kernel's own causal one does not say it.
std::optional<at::Tensor> mask_of(const Call& call, const Sequence& at, const at::Tensor& q) {
  if (!call.causal || (at.num_queries == at.num_keys && call.left < 0)) {
    return std::nullopt;
  }
  const at::Tensor not_seen = unseen(call, at, 0, at.num_queries, q.device());
  return at::zeros({at.num_queries, at.num_keys}, q.options())
      .masked_fill_(not_seen, -std::numeric_limits<double>::infinity());
}

Seen flash_for_cpu(
    const Call& call,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    double scale) {
  const at::Tensor out = at::empty(q.sizes(), q.options());
  const at::Tensor lse = at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat));
  each(call, [&](const Sequence& at) {
    const auto mask = mask_of(call, at, q);
    const auto [o, l] = at::_scaled_dot_product_flash_attention_for_cpu(
        by_head(q, at.query, at.num_queries), by_head(k, at.key, at.num_keys),
        by_head(v, at.key, at.num_keys), 0.0, call.causal && !mask, mask, scale);
    out.narrow(0, at.query, at.num_queries).copy_(o.squeeze(0).transpose(0, 1));
    lse.narrow(1, at.query, at.num_queries).copy_(l.squeeze(0));
  });
  return {out, lse};
}

Grads flash_for_cpu_backward(
    const Call& call,
    const at::Tensor& grad,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    const Seen& seen,
    double scale) {
  const int64_t n = q.size(1), num_kv = k.size(1), h = q.size(2);
  const Grads grads{at::zeros_like(q), at::zeros_like(k), at::zeros_like(v)};
  each(call, [&](const Sequence& at) {
    const auto mask = mask_of(call, at, q);
    // Its way back takes no grouped heads.
    const auto spread = [&](const at::Tensor& x) {
      return by_head(x, at.key, at.num_keys).repeat_interleave(n / num_kv, 1);
    };
    const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        by_head(grad, at.query, at.num_queries), by_head(q, at.query, at.num_queries), spread(k),
        spread(v), by_head(seen.out, at.query, at.num_queries),
        seen.lse.narrow(1, at.query, at.num_queries).unsqueeze(0), 0.0, call.causal && !mask, mask,
        scale);
    const auto put = [&](const at::Tensor& all, int64_t first, int64_t num, const at::Tensor& part) {
      all.narrow(0, first, num).add_(part.squeeze(0).transpose(0, 1));
    };
    const auto group = [&](const at::Tensor& x) {
      return x.reshape({1, num_kv, n / num_kv, at.num_keys, h}).sum(2);
    };
    put(grads.q, at.query, at.num_queries, dq);
    put(grads.k, at.key, at.num_keys, group(dk));
    put(grads.v, at.key, at.num_keys, group(dv));
  });
  return grads;
}

// A block of queries of a sequence, with all that see the same key head as rows: `[K, G l, H]` in f32.
at::Tensor rows_of(const at::Tensor& x, int64_t first, int64_t num, int64_t num_kv) {
  const int64_t h = x.size(2), g = x.size(1) / num_kv;
  return x.narrow(0, first, num)
      .to(at::kFloat)
      .view({num, num_kv, g, h})
      .permute({1, 2, 0, 3})
      .reshape({num_kv, g * num, h});
}

// The inverse: `[l, N, H]`.
at::Tensor tokens_of(const at::Tensor& rows, int64_t num) {
  const int64_t num_kv = rows.size(0), g = rows.size(1) / num, h = rows.size(2);
  return rows.view({num_kv, g, num, h}).permute({2, 0, 1, 3}).reshape({num, num_kv * g, h});
}

// A block of queries of a sequence and what all of its products need, in f32.
struct Block {
  Sequence at;
  // The first query, among those of the call, and how many.
  int64_t first;
  int64_t num;
  // `[K, G l, H]`, `[K, U, H]` twice, and `[K, G l, U]`.
  at::Tensor q_rows;
  at::Tensor k_kuh;
  at::Tensor v_kuh;
  at::Tensor scores;
};

// Calls `work` with the blocks of each sequence's queries.
template <class F>
void each_block(
    const Call& call,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    double scale,
    F work) {
  const int64_t n = q.size(1), num_kv = k.size(1), g = n / num_kv;
  each(call, [&](const Sequence& at) {
    const auto keys = [&](const at::Tensor& x) {
      return x.narrow(0, at.key, at.num_keys).to(at::kFloat).transpose(0, 1).contiguous();
    };
    const at::Tensor k_kuh = keys(k), v_kuh = keys(v);
    const int64_t most = std::max<int64_t>(kScores / (n * at.num_keys), 1);
    for (int64_t first = 0; first < at.num_queries; first += most) {
      const int64_t num = std::min(most, at.num_queries - first);
      const at::Tensor q_rows = rows_of(q, at.query + first, num, num_kv);
      at::Tensor scores = at::bmm(q_rows, k_kuh.transpose(1, 2)).mul_(scale);
      const at::Tensor not_seen = unseen(call, at, first, num, q.device());
      if (not_seen.defined()) {
        scores.view({num_kv, g, num, at.num_keys})
            .masked_fill_(not_seen, -std::numeric_limits<double>::infinity());
      }
      work(Block{at, at.query + first, num, q_rows, k_kuh, v_kuh, scores});
    }
  });
}

Seen math(
    const Call& call,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    double scale) {
  const at::Tensor out = at::empty(q.sizes(), q.options());
  const at::Tensor lse = at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat));
  each_block(call, q, k, v, scale, [&](const Block& b) {
    const at::Tensor sums = at::logsumexp(b.scores, {2}, /*keepdim=*/true);
    const at::Tensor shares = b.scores.sub(sums).exp_();
    out.narrow(0, b.first, b.num).copy_(tokens_of(at::bmm(shares, b.v_kuh), b.num));
    lse.narrow(1, b.first, b.num).copy_(sums.view({q.size(1), b.num}));
  });
  return {out, lse};
}

Grads math_backward(
    const Call& call,
    const at::Tensor& grad,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    const Seen& seen,
    double scale) {
  const int64_t num_kv = k.size(1), g = q.size(1) / num_kv;
  const auto wide = q.options().dtype(at::kFloat);
  const Grads grads{
      at::empty(q.sizes(), wide), at::zeros(k.sizes(), wide), at::zeros(v.sizes(), wide)};
  each_block(call, q, k, v, scale, [&](const Block& b) {
    const at::Tensor sums =
        seen.lse.narrow(1, b.first, b.num).reshape({num_kv, g * b.num, 1});
    const at::Tensor shares = b.scores.sub(sums).exp_();
    const at::Tensor grad_rows = rows_of(grad, b.first, b.num, num_kv);
    const at::Tensor out_rows = rows_of(seen.out, b.first, b.num, num_kv);
    const at::Tensor along = grad_rows.mul(out_rows).sum(2, /*keepdim=*/true);
    const at::Tensor by_scores =
        at::bmm(grad_rows, b.v_kuh.transpose(1, 2)).sub_(along).mul_(shares).mul_(scale);
    grads.q.narrow(0, b.first, b.num).copy_(tokens_of(at::bmm(by_scores, b.k_kuh), b.num));
    const auto add = [&](const at::Tensor& all, const at::Tensor& part_kuh) {
      all.narrow(0, b.at.key, b.at.num_keys).add_(part_kuh.transpose(0, 1));
    };
    add(grads.k, at::bmm(by_scores.transpose(1, 2), b.q_rows));
    add(grads.v, at::bmm(shares.transpose(1, 2), grad_rows));
  });
  return {grads.q.to(q.scalar_type()), grads.k.to(k.scalar_type()), grads.v.to(v.scalar_type())};
}

Seen run(
    Kernel kernel,
    const Call& call,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    double scale) {
  switch (kernel) {
    case kFlash:
      return flash(call, q, k, v, scale);
    case kFlashForCpu:
      return flash_for_cpu(call, q, k, v, scale);
    case kMath:
      break;
  }
  return math(call, q, k, v, scale);
}

Grads run_backward(
    Kernel kernel,
    const Call& call,
    const at::Tensor& grad,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    const Seen& seen,
    double scale) {
  switch (kernel) {
    case kFlash:
      return flash_backward(call, grad, q, k, v, seen, scale);
    case kFlashForCpu:
      return flash_for_cpu_backward(call, grad, q, k, v, seen, scale);
    case kMath:
      break;
  }
  return math_backward(call, grad, q, k, v, seen, scale);
}

} // namespace
