// Standard containers on Tarn, whatever malloc the rest of the program uses.
#include <cstdio>
#include <memory_resource>
#include <string>
#include <vector>

#include <tarn/memory_resource.hpp>

int main() {
    std::pmr::vector<std::pmr::string> words{tarn::malloc_resource()};
    words.emplace_back("each string is on Tarn, too, because the vector passes its resource on");
    std::printf("%zu words, %zu bytes usable\n", words.size(),
                tarn_malloc_usable_size(words.data()));
}
