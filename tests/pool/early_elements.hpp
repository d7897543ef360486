// pool/early_elements.hpp - elements of objects with static storage, in a file of their own.
#pragma once

namespace tarn::test {

/// What a constructor before main() wrote to an element.
int of_another_file();

}  // namespace tarn::test
