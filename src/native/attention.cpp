// Attention of a pass that is given as calls of a kernel for sequences of various lengths, merged by
// the logarithms of their sums of exponentials, forward and backward. Called by src/lm/varlen.rs only.
// A tensor is tch's C_tensor*, an at::Tensor*.
//
// Legend of shapes: L queries of the pass, S keys, N heads, K key heads, H head size.

#include "attention_kernels.h"
#include "message.h"

#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/logaddexp.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>

namespace {

struct Plan : torch::CustomClassHolder {
  std::vector<Call> calls;
  Kernel kernel;
};

// All calls of a pass, merged: each weighs as the sum of its exponentials.
Seen forward(
    const Plan& plan,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    double scale) {
  const auto part = [&](const Call& call) {
    return run(plan.kernel, call, call.of_queries(q), call.of_keys(k), call.of_keys(v), scale);
  };
  Seen all = part(plan.calls.front());
  if (plan.calls.size() == 1) {
    return all;
  }
  // Several roundings to half precision would add up.
  at::Tensor out = all.out.to(at::kFloat);
  at::Tensor lse = all.lse;
  for (size_t i = 1; i < plan.calls.size(); ++i) {
    const Call& call = plan.calls[i];
    const Seen more = part(call);
    const at::Tensor held = call.of_queries(lse, 1);
    const at::Tensor share = more.lse.sub(held).sigmoid_().t().unsqueeze(-1);
    const at::Tensor sums = at::logaddexp(held, more.lse);
    if (call.queries.defined()) {
      const at::Tensor merged =
          out.index_select(0, call.queries).lerp_(more.out.to(at::kFloat), share);
      out.index_copy_(0, call.queries, merged);
      lse.index_copy_(1, call.queries, sums);
    } else {
      out.lerp_(more.out.to(at::kFloat), share);
      lse = sums;
    }
  }
  return {out.to(q.scalar_type()), lse};
}

// The gradient of the whole by each call's tensors is what the call's kernel gives when it is told the
// result and the sums of the whole: its shares of the softmax are then those of the whole.
Grads backward(
    const Plan& plan,
    const at::Tensor& grad,
    const at::Tensor& q,
    const at::Tensor& k,
    const at::Tensor& v,
    const Seen& seen,
    double scale) {
  const auto part = [&](const Call& call) {
    const Seen of_call{call.of_queries(seen.out), call.of_queries(seen.lse, 1)};
    return run_backward(
        plan.kernel, call, call.of_queries(grad), call.of_queries(q), call.of_keys(k),
        call.of_keys(v), of_call, scale);
  };
  const Call& first = plan.calls.front();
  if (plan.calls.size() == 1 && !first.queries.defined() && first.takes_all_keys(k.size(0))) {
    return part(first);
  }
  const auto none = [](const at::Tensor& like) {
    return at::zeros(like.sizes(), like.options().dtype(at::kFloat));
  };
  const Grads all{none(q), none(k), none(v)};
  for (const Call& call : plan.calls) {
    const Grads of_call = part(call);
    call.add_queries(all.q, of_call.q);
    call.add_keys(all.k, of_call.k);
    call.add_keys(all.v, of_call.v);
  }
  return {all.q.to(q.scalar_type()), all.k.to(k.scalar_type()), all.v.to(v.scalar_type())};
}

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context,
      const at::Tensor& q,
      const at::Tensor& k,
      const at::Tensor& v,
      const c10::intrusive_ptr<Plan>& plan,
      double scale) {
    const Seen seen = ::forward(*plan, q, k, v, scale);
    context->save_for_backward({q, k, v, seen.out, seen.lse});
    context->saved_data["plan"] = c10::IValue::make_capsule(plan);
    context->saved_data["scale"] = scale;
    return seen.out;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context,
      torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const auto plan =
        c10::static_intrusive_pointer_cast<Plan>(context->saved_data["plan"].toCapsule());
    const double scale = context->saved_data["scale"].toDouble();
    const Grads of = ::backward(
        *plan, grads[0].contiguous(), saved[0], saved[1], saved[2], {saved[3], saved[4]}, scale);
    return {of.q, of.k, of.v, at::Tensor(), at::Tensor()};
  }
};

} // namespace

struct W2sAttention {
  c10::intrusive_ptr<Plan> plan;
};

extern "C" {

W2sAttention* w2s_attention_new(
    const W2sCall* calls,
    size_t num,
    int32_t kernel,
    char* text,
    size_t size) {
  auto made = std::make_unique<W2sAttention>();
  const int status = guarded({text, size}, [&] {
    TORCH_CHECK(num > 0 && kernel >= kFlash && kernel <= kMath, "no such attention");
    made->plan = c10::make_intrusive<Plan>();
    made->plan->kernel = static_cast<Kernel>(kernel);
    for (size_t i = 0; i < num; ++i) {
      made->plan->calls.emplace_back(calls[i]);
    }
  });
  return status == 0 ? made.release() : nullptr;
}

void w2s_attention_drop(W2sAttention* attention) {
  delete attention;
}

// Sets `*out` to a new tensor `[L, N, H]` that the caller owns, for `q` of that shape, and `k` and `v`
// `[S, K, H]`.
int w2s_attention_run(
    const W2sAttention* attention,
    const at::Tensor* q,
    const at::Tensor* k,
    const at::Tensor* v,
    double scale,
    at::Tensor** out,
    char* text,
    size_t size) {
  return guarded({text, size}, [&] {
    const bool trains = at::GradMode::is_enabled() &&
        (q->requires_grad() || k->requires_grad() || v->requires_grad());
    *out = new at::Tensor(
        trains ? Attention::apply(*q, *k, *v, attention->plan, scale)
               : forward(*attention->plan, *q, *k, *v, scale).out);
  });
}

} // extern "C"
