// A declaration of gloo without its code, which libtorch ships compiled but without headers: enough for
// torch/csrc/distributed/c10d/ProcessGroupGloo.hpp, which holds gloo types by pointer only.
#pragma once
#include <chrono>
#include <string>
#include <vector>
namespace gloo { namespace rendezvous {
class Store {
 public:
  virtual ~Store();
  virtual void set(const std::string&, const std::vector<char>&) = 0;
  virtual std::vector<char> get(const std::string&) = 0;
  virtual void wait(const std::vector<std::string>&) = 0;
  virtual void wait(const std::vector<std::string>&, const std::chrono::milliseconds&);
};
}}
