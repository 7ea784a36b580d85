// PyTorch's AdamW step in one pass over memory, which tch lacks. Called by src/train/fused.rs only. A
// tensor is tch's C_tensor*, an at::Tensor*.

#include "message.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>

#include <vector>

// Mirrored in src/train/fused.rs.
struct W2sAdamW {
  double lr;
  double beta1;
  double beta2;
  double weight_decay;
  double eps;
  // The number of the step, from 1.
  double step;
  // What gradients are multiplied by.
  double scale;
};

extern "C" {

// The tensors of a list are on one device, contiguous and of f32.
int w2s_adamw(
    const W2sAdamW* settings,
    at::Tensor* const* parameters,
    at::Tensor* const* grads,
    at::Tensor* const* means,
    at::Tensor* const* squares,
    size_t num,
    char* text,
    size_t size) {
  return guarded({text, size}, [&] {
    const at::NoGradGuard no_grad;
    const auto list = [num](at::Tensor* const* all) {
      std::vector<at::Tensor> tensors;
      tensors.reserve(num);
      for (size_t i = 0; i < num; ++i) {
        // The kernel of the CPU takes raw memory.
        TORCH_CHECK(
            all[i]->is_contiguous() && all[i]->scalar_type() == at::kFloat,
            "expected contiguous tensors of f32");
        tensors.push_back(*all[i]);
      }
      return tensors;
    };
    const auto all = list(parameters);
    const auto options = all.at(0).options();
    const std::vector<at::Tensor> steps(num, at::full({}, settings->step, options));
    std::optional<at::Tensor> divisor;
    if (settings->scale != 1.0) {
      divisor = at::full({}, 1.0 / settings->scale, options);
    }
    at::_fused_adamw_(
        all,
        list(grads),
        list(means),
        list(squares),
        {},
        steps,
        settings->lr,
        settings->beta1,
        settings->beta2,
        settings->weight_decay,
        settings->eps,
        /*amsgrad=*/false,
        /*maximize=*/false,
        divisor);
  });
}

} // extern "C"
