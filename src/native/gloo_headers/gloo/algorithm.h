// A declaration of gloo without its code, which libtorch ships compiled but without headers: enough for
// torch/csrc/distributed/c10d/ProcessGroupGloo.hpp, which holds gloo types by pointer only.
#pragma once
